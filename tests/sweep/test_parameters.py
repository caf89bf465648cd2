"""Samplers and pruners; parameters depend on seed, trial and key only."""

import functools
import warnings

import optuna
import pytest
from helpers import CONF
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from autocaption.sweep.parameters import draw, sampler_of

SAMPLERS = sorted(file.stem for file in CONF.glob("sweep/sampler/*.yaml"))
PRUNERS = sorted(file.stem for file in CONF.glob("sweep/pruner/*.yaml"))
SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0, 0.5),
    "size": CategoricalDistribution([1, 2, 3]),
    "layers": IntDistribution(1, 3),
}
FINITE = {"size": CategoricalDistribution(["a", "b"]), "layers": IntDistribution(1, 3)}


@functools.cache
def configured(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["sweep=default", *words])


def run(name, seed, space, trials=14, torn=()):
    """The parameters of a study's trials; `torn` ones lose all but their first after drawing, once."""
    warnings.simplefilter("ignore")
    study = optuna.create_study()
    study.stop = lambda: None
    sampler = functools.partial(instantiate, configured(f"sweep/sampler={name}").sweep.sampler)
    for number in range(trials):
        study.sampler = sampler_of(sampler, seed, number)
        trial = study.ask()
        if number in torn:
            first = dict(list(space.items())[:1])
            draw(trial, first, None, OmegaConf.create(), sampler, seed)
            trial = optuna.Trial(study, trial._trial_id)
        values = draw(trial, space, None, OmegaConf.create(), sampler, seed)
        assert values == trial.params
        study.sampler = sampler_of(sampler, seed, number)
        study.tell(trial, sum(len(v) if isinstance(v, str) else v for v in values.values()))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_parameters_depend_on_seed_and_number_only(name):
    space = {**FINITE, "more": IntDistribution(0, 9)} if name == "grid" else SPACE
    trials = 8 if name == "gp" else 14  # it fits a model for each
    whole = run(name, 3, space, trials)
    assert run(name, 3, space, trials, torn=range(14)) == whole
    assert run(name, 4, space, trials) != whole
    assert len({tuple(params.values()) for params in whole}) > trials // 2  # not one draw again and again


def test_a_grid_has_every_combination_once():
    drawn = {tuple(params.values()) for params in run("grid", 0, FINITE, trials=6)}
    assert drawn == {(size, layers) for size in "ab" for layers in (1, 2, 3)}


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_can_be_built(name):
    config = configured(f"sweep/pruner={name}", "trainer.max_epochs=9")
    assert isinstance(instantiate(config.sweep.pruner), optuna.pruners.BasePruner)


def test_a_custom_space_adds_to_the_trial():
    def custom(config, trial):
        if trial.params["layers"] > config.deep:
            return {"model.width": trial.suggest_int("width", 1, 9)}
        return None

    study = optuna.create_study()
    sampler = functools.partial(instantiate, configured("sweep/sampler=random").sweep.sampler)
    seen = set()
    for _ in range(12):
        trial = study.ask()
        values = draw(trial, FINITE, custom, OmegaConf.create({"deep": 2}), sampler, 0)
        study.tell(trial, 1.0)
        deep = values["layers"] > 2
        seen.add(deep)
        assert ("model.width" in values) == deep
        assert values.get("model.width") == trial.params.get("width")
    assert seen == {True, False}
