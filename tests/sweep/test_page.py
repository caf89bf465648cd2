"""The numbers of the report page."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from autocaption.sweep.page import importances


def height(high, low):
    """The highest values depend on `high` only, the lowest on `low` only."""
    return 1 + high if high > 0.85 else -1 - low if low < 0.15 else 0.0


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_importance_is_measured_among_good_values(directions):
    study = optuna.create_study(directions=directions)
    unit = FloatDistribution(0, 1)
    for i in range(15):
        for j in range(15):
            high, low = i / 14, j / 14
            values = [height(high, low), -height(high, low)][: len(directions)]
            distributions = {"high": unit, "low": unit}
            study.add_trial(
                create_trial(values=values, params={"high": high, "low": low}, distributions=distributions)
            )
    for value in range(len(directions)):
        found = importances(study, value)
        assert found["high"] > 10 * found["low"]
