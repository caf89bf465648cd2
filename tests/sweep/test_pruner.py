"""Pruners that can't prune are refused before the first trial."""

import optuna
import pytest
from helpers import CONF
from omegaconf import OmegaConf

from autocaption.errors import UserError
from autocaption.sweep.pruner import make_pruner

HYPERBAND = "optuna.pruners.HyperbandPruner"


class Broken(optuna.pruners.BasePruner):
    """A user's own, with a bug."""

    def prune(self, study, trial):
        raise KeyError("a bug")


@pytest.mark.parametrize("file", sorted((CONF / "sweep/pruner").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_choice_prunes(file):
    config = OmegaConf.create({"trainer": {"max_epochs": 1}, "pruner": OmegaConf.load(file)})
    assert isinstance(make_pruner(config.pruner, 1), optuna.pruners.BasePruner)


@pytest.mark.parametrize(
    ("pruner", "named"),
    [
        ({"_target_": "optuna.pruners.HyperbandPruner", "max_resource": -1}, "HyperbandPruner can't prune"),
        ({"_target_": f"{__name__}.Broken"}, "Broken can't prune: 'a bug'; change sweep.pruner"),
        ({"_target_": "optuna.samplers.RandomSampler"}, "RandomSampler is no pruner"),
        (None, "NoneType is no pruner"),
    ],
)
def test_what_cannot_prune_is_refused(pruner, named):
    with pytest.raises(UserError, match=named):
        make_pruner(pruner and OmegaConf.create(pruner), 1)


def test_several_objectives_are_not_pruned_by():
    median = OmegaConf.create({"_target_": "optuna.pruners.MedianPruner"})
    with pytest.raises(UserError, match="several objectives"):
        make_pruner(median, 2)
    make_pruner(OmegaConf.create({"_target_": "optuna.pruners.NopPruner"}), 2)
