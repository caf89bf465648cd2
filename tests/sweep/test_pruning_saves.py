"""What pruning is worth: real sweeps over real trainings, in this process to save its many starts.

Drawn at random, the trials of a sweep with pruning are those of the sweep without, so that nothing but the
pruner differs. (TPE learns from what was pruned and goes another way: the best of two such sweeps of
twenty trials differ by up to 4 % either way, with pruning or with another seed.)
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
from autocaption.sweep.parameters import draw, sampler_of
from autocaption.sweep.reporter import StudyReporter
from autocaption.sweep.space import as_overrides
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.sweeper import Sweeper
from autocaption.sweep.table import SweepTable

EPOCHS, TRIALS = 8, 40
WORDS = [
    *("experiment=shapes", "data.source.train=400", "data.source.val=100", "data.source.size=32"),
    *("model.encoder.image_size=32", "model.encoder.width=8", "data.batch_size=16", "search=greedy"),
    *("model.decoder.embed_dim=64", "model.decoder.hidden_dim=64", "logger=csv", "test=false"),
    *(f"trainer.max_epochs={EPOCHS}", "callbacks.best.monitor=val/perplexity", "callbacks.best.mode=min"),
]
# That of sweep=show_and_tell, for a model and a learning rate of this size.
SPACE = {
    "optimizer.lr": FloatDistribution(2.5e-3, 1e-2, log=True),
    "model.decoder.dropout": FloatDistribution(0.05, 0.5),
    "model.decoder.batch_norm_momentum": FloatDistribution(0.005, 0.02, log=True),
    "model.decoder.hidden_dim": CategoricalDistribution([16, 32, 64]),
    "model.decoder.embed_dim": CategoricalDistribution([16, 32, 64]),
    "model.decoder.layers": IntDistribution(1, 3),
}
reporters = []  # of the running trial


class Ended:
    """A trial that was run to its end."""

    def poll(self):
        return 0

    def interrupt(self):
        pass


def configured(*words):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", [*WORDS, *words])


def sweep(folder, pruner, seed):
    """The best perplexity of a sweep, the epochs that it took, and what its trials were."""
    settings = configured("sweep=default", "sweep/sampler=random", f"sweep/pruner={pruner}").sweep
    storage = open_storage(f"sqlite:///{folder}/study.db")
    definition = {"objective": ["val/perplexity"], "direction": ["minimize"]}
    study = open_study(storage, f"pruned by {pruner}", definition, [], [])
    study.pruner = instantiate(settings.pruner)
    sampler = functools.partial(instantiate, settings.sampler)

    def start(claim, slot):
        config = configured(*as_overrides(draw(claim.trial, SPACE, None, None, sampler, seed)))
        reporters[:] = [StudyReporter(study, claim.number, claim.attempt)]
        callback = {"_target_": "autocaption.callbacks.pruning.Pruning", "mode": "min"}
        reporter = {"_target_": f"{__name__}.reporters.__getitem__", "_args_": [0]}
        with open_dict(config):
            config.run_dir = str(claim.folder)
            config.callbacks.sweep = {**callback, "monitor": "val/perplexity", "reporter": reporter}
        experiment.train(config)
        return Ended()

    seeded = functools.partial(sampler_of, sampler, seed)
    claims = Claims(study, storage, folder, seeded, TRIALS, 60.0, True)
    table = SweepTable(study, ["val/perplexity"], TRIALS, 1, Console(quiet=True))
    Sweeper(claims, start, table, ["val/perplexity"], 1, 0, 0, 60.0).run()
    epochs = sum(trial.user_attrs["epochs"] for trial in study.trials)
    return study.best_value, epochs, [trial.params for trial in study.trials]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pruning_saves_epochs_and_finds_as_much(tmp_path, seed):
    best, epochs, tried = sweep(tmp_path / "whole", "none", seed)
    best_pruned, epochs_pruned, tried_pruned = sweep(tmp_path / "pruned", "median", seed)
    print(f"seed {seed}: {best:.4f} in {epochs} epochs; pruned {best_pruned:.4f} in {epochs_pruned}")
    assert tried_pruned == tried
    assert epochs == TRIALS * EPOCHS
    assert best_pruned <= best * 1.01
    assert epochs_pruned <= 0.6 * epochs
