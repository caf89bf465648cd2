"""What pruning saves: sweeps of real trainings, in this process to avoid starting one for each trial.

Parameters are drawn at random, so a sweep has the same trials with and without pruning. (TPE would learn from
pruned trials and draw others: the best of two such sweeps of twenty trials differ by up to 4 % either way,
whether by pruning or by the seed.)
"""

import functools

import pytest
from helpers import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import open_dict
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from autocaption import experiment
from autocaption.sweep.claims import Claims
from autocaption.sweep.parameters import draw, use_sampler
from autocaption.sweep.patience import Patience
from autocaption.sweep.reporter import StudyReporter
from autocaption.sweep.space import as_overrides
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.sweeper import Sweeper
from autocaption.sweep.table import SweepTable

EPOCHS, TRIALS = 8, 40
OVERRIDES = [
    *("experiment=shapes", "data.source.train=400", "data.source.val=100", "data.source.size=32"),
    *("model.encoder.image_size=32", "model.encoder.width=8", "data.batch_size=16", "search=greedy"),
    *("model.decoder.embed_dim=64", "model.decoder.hidden_dim=64", "logger=csv", "test=false"),
    *(f"trainer.max_epochs={EPOCHS}", "callbacks.best.monitor=val/perplexity", "callbacks.best.mode=min"),
]
# The space of sweep=show_and_tell, scaled to this small model.
SPACE = {
    "optimizer.lr": FloatDistribution(2.5e-3, 1e-2, log=True),
    "model.decoder.dropout": FloatDistribution(0.05, 0.5),
    "model.decoder.batch_norm_momentum": FloatDistribution(0.005, 0.02, log=True),
    "model.decoder.hidden_dim": CategoricalDistribution([16, 32, 64]),
    "model.decoder.embed_dim": CategoricalDistribution([16, 32, 64]),
    "model.decoder.layers": IntDistribution(1, 3),
}
reporters = []  # the running trial's reporter


class Ended:
    """A process that has ended."""

    def poll(self):
        return 0

    def interrupt(self):
        pass


def configured(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", [*OVERRIDES, *overrides])


def sweep(folder, pruner, seed):
    """Run a sweep; returns the best perplexity, the number of epochs trained, and the trials' parameters."""
    settings = configured("sweep=default", "sweep/sampler=random", f"sweep/pruner={pruner}").sweep
    storage = open_storage(f"sqlite:///{folder}/study.db")
    definition = {"objective": ["val/perplexity"], "direction": ["minimize"]}
    study = open_study(storage, f"pruned by {pruner}", definition, [], [])
    study.pruner = instantiate(settings.pruner)
    use_sampler(study, functools.partial(instantiate, settings.sampler), seed)

    def start(claim, slot):
        config = configured(*as_overrides(draw(claim.trial, SPACE, None, None)))
        reporters[:] = [StudyReporter(storage, study, claim.number, claim.attempt)]
        callback = {"_target_": "autocaption.callbacks.pruning.Pruning", "mode": "min"}
        reporter = {"_target_": f"{__name__}.reporters.__getitem__", "_args_": [0]}
        with open_dict(config):
            config.run_dir = str(claim.folder)
            config.callbacks.sweep = {**callback, "monitor": "val/perplexity", "reporter": reporter}
        experiment.train(config)
        return Ended()

    claims = Claims(study, storage, folder, TRIALS, 60.0, local=True)
    table = SweepTable(study, ["val/perplexity"], TRIALS, 1, Console(quiet=True))
    Sweeper(claims, start, table, ["val/perplexity"], 1, 0, 0, 60.0, Patience(0.0, print)).run()
    epochs = sum(trial.user_attrs["epochs"] for trial in study.trials)
    return study.best_value, epochs, [trial.params for trial in study.trials]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pruning_saves_epochs_without_a_worse_best_trial(tmp_path, seed):
    best, epochs, params = sweep(tmp_path / "whole", "none", seed)
    best_pruned, epochs_pruned, params_pruned = sweep(tmp_path / "pruned", "median", seed)
    print(f"seed {seed}: {best:.4f} in {epochs} epochs; pruned {best_pruned:.4f} in {epochs_pruned}")
    assert params_pruned == params
    assert epochs == TRIALS * EPOCHS
    assert best_pruned <= best * 1.01
    assert epochs_pruned <= 0.6 * epochs
