"""Charts: axes, lines and bins."""

import random

import pytest

from autocaption.report.charts import BINS, POINTS, axis, curve_charts, histograms, thinned
from autocaption.report.system import Sentence, System


def coordinates(line):
    return [tuple(map(float, pair.split())) for pair in line.path.removeprefix("M").split("L")]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.001, 0.0043), (1, 9000), (17, 18), (0.5, 0.5), (2e-5, 2e-3)])
def test_ticks_are_few_and_within_the_axis(low, high, log):
    made = axis(low, high, 0, 100, log and high > 10 * low)
    assert 2 <= len(made.ticks) <= 12
    assert all(0 <= made.at(tick) <= 100 for tick in made.ticks)
    assert list(made.ticks) == sorted(set(made.ticks))


def test_an_axis_is_linear_or_logarithmic():
    assert axis(0, 10, 100, 0).at(2.5) == 75
    assert axis(1, 100, 0, 100, log=True).at(10) == 50


def test_a_long_curve_keeps_its_means():
    curve = [(float(i), random.Random(i).random()) for i in range(1000)]
    short = thinned(curve)
    assert POINTS / 2 < len(short) <= POINTS
    assert short[0] == pytest.approx((4.0, sum(y for _, y in curve[:9]) / 9))
    assert thinned(curve[:POINTS]) == curve[:POINTS]


def test_a_run_s_charts_are_those_of_what_it_logged():
    curves = {
        "train/loss": [(0, 3.0), (10, 1.0)],
        "val/loss": [(5, 2.0), (10, 1.0)],
        "val/bleu4": [(5, 0.1)],
        "val/cider": [(5, 0.1), (10, 0.7)],
        "lr-AdamW/a": [(0, 0.1)],
        "lr-AdamW/b": [(0, 0.1)],
        "lr/encoder": [(0, 0.01)],
        "epoch": [(0, 0.0)],
    }
    charts = {chart.title: chart for chart in curve_charts([System("a", "test", curves=curves)])}
    assert list(charts) == ["Loss", "BLEU-4", "CIDEr-D", "Learning rate"]
    loss = charts["Loss"]
    assert [line.name for line in loss.lines] == ["training", "validation"]
    assert coordinates(loss.lines[0]) == [(loss.x.start, loss.y.end), (loss.x.end, loss.y.start)]
    assert [line.name for line in charts["Learning rate"].lines] == ["AdamW/a", "encoder"]


def test_validations_of_several_systems_share_a_chart():
    systems = [
        System(name, "test", curves={"val/loss": [(0, 1.0)], "train/loss": [(0, 9.0)]}) for name in "ab"
    ]
    (chart,) = curve_charts(systems)
    assert [(line.name, line.colour) for line in chart.lines] == [("a", 0), ("b", 1)]


def test_histograms_count_every_image_once():
    def of(name, values):
        return System(
            name, "test", sentences={str(i): Sentence("", {"cider": v}) for i, v in enumerate(values)}
        )

    (chart,) = histograms([of("greedy", [0, 0, 1, 2.4]), of("beam", [2.4, 2.4])], {"cider": "CIDEr-D"})
    first, second = ([y for _, y in line.points[1:-1:2]] for line in chart.lines)
    assert len(first) == BINS
    assert (first[0], first[10], first[-1]) == (0.5, 0.25, 0.25)
    assert sum(first) == sum(second) == second[-1] == 1
