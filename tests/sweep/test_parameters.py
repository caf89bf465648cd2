"""What samplers draw for a trial, with every sampler and pruner of conf/."""

import functools
import warnings

import optuna
import pytest
from helpers import CONF
from helpers.configs import composed
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from autocaption.sweep.parameters import draw, use_sampler

SAMPLERS = sorted(file.stem for file in CONF.glob("sweep/sampler/*.yaml"))
PRUNERS = sorted(file.stem for file in CONF.glob("sweep/pruner/*.yaml"))
SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0, 0.5),
    "rate": FloatDistribution(0, 1, step=0.25),
    "size": CategoricalDistribution([1, 2, 3]),
    "layers": IntDistribution(1, 3),
    "width": IntDistribution(1, 64, log=True),
}
FINITE = {"size": CategoricalDistribution(["a", "b"]), "layers": IntDistribution(1, 3)}


def configured(*overrides):
    return composed("sweep=default", *overrides).sweep


def study_with(sampler, seed=0):
    warnings.simplefilter("ignore")
    study = optuna.create_study()
    use_sampler(study, functools.partial(instantiate, configured(f"sweep/sampler={sampler}").sampler), seed)
    return study


def run(sampler, seed, space, trials=14, interrupted=()):
    """The parameters of a study's trials; `interrupted` ones resume after their first parameter."""
    study = study_with(sampler, seed)
    for number in range(trials):
        trial = study.ask()
        if number in interrupted:
            draw(trial, dict(list(space.items())[:1]), None, OmegaConf.create())
            study_id = trial.storage.get_study_id_from_name(study.study_name)
            trial_id = trial.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            trial = optuna.Trial(study, trial_id)
        values = draw(trial, space, None, OmegaConf.create())
        assert values == trial.params
        study.tell(trial, sum(len(v) if isinstance(v, str) else v for v in values.values()))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_depend_on_seed_and_trial_number_only(sampler):
    space = {**FINITE, "more": IntDistribution(0, 9)} if sampler == "grid" else SPACE
    trials = 8 if sampler == "gp" else 14  # it fits a model for each trial
    whole = run(sampler, 3, space, trials)
    assert run(sampler, 3, space, trials, interrupted=range(14)) == whole
    assert run(sampler, 4, space, trials) != whole
    assert len({tuple(params.values()) for params in whole}) > trials // 2


def test_tpe_takes_the_trials_that_run_into_account():
    space = {"x": FloatDistribution(0, 1)}

    def next_draw(fail):
        study = study_with("tpe")
        for value in (0.1, 0.3, 0.5, 0.7, 0.9, 0.52, 0.48, 0.5):
            params = {"params": {"x": value}, "distributions": space}
            study.add_trial(optuna.trial.create_trial(value=abs(value - 0.5), **params))
        side_by_side = [study.ask() for _ in range(5)]
        for trial in side_by_side:
            draw(trial, space, None, OmegaConf.create())
        for trial in side_by_side if fail else []:
            study.tell(trial, state=TrialState.FAIL)
        return draw(study.ask(), space, None, OmegaConf.create())

    # Failed ones never count, so the draws differ only if running ones do.
    assert next_draw(fail=False) != next_draw(fail=True)


def test_draws_do_not_depend_on_the_order_of_keys():
    reverse = dict(reversed(SPACE.items()))
    for params, reversed_params in zip(run("random", 3, SPACE), run("random", 3, reverse), strict=True):
        assert params == reversed_params


def test_a_grid_has_every_combination_once():
    drawn = {tuple(params.values()) for params in run("grid", 0, FINITE, trials=6)}
    assert drawn == {(size, layers) for size in "ab" for layers in (1, 2, 3)}


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_pruner_can_be_built(pruner):
    config = configured(f"sweep/pruner={pruner}", "trainer.max_epochs=9")
    assert isinstance(instantiate(config.pruner), optuna.pruners.BasePruner)


def test_a_custom_space_adds_parameters():
    def custom(config, trial):
        if trial.params["layers"] > config.deep:
            return {"model.width": trial.suggest_int("width", 1, 9)}
        return None

    study = study_with("random")
    seen = set()
    for _ in range(12):
        trial = study.ask()
        values = draw(trial, FINITE, custom, OmegaConf.create({"deep": 2}))
        study.tell(trial, 1.0)
        deep = values["layers"] > 2
        seen.add(deep)
        assert ("model.width" in values) == deep
        assert values.get("model.width") == trial.params.get("width")
    assert seen == {True, False}
