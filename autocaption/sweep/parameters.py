"""A trial's parameters, each drawn with a seed of its own."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autocaption.randomness import seed_of
from autocaption.sweep.space import CustomSpace
from autocaption.sweep.study import EXHAUSTED, RELATIVE

SamplerFactory = Callable[..., BaseSampler]  # takes seed=


def make_sampler(factory: SamplerFactory, seed: int, *names: object) -> BaseSampler:
    """A sampler seeded by the sweep's seed and by names, such as a trial's number."""
    with warnings.catch_warnings(action="ignore"):  # experimental samplers
        return factory(seed=seed_of("sweep", seed, *names) % 2**32)  # NumPy's range of seeds


class SeededSampler(BaseSampler):
    """Draws each parameter with a sampler of its own, seeded by (seed, trial number, key).

    What is drawn therefore depends on the finished trials, but not on earlier draws in this process: a trial
    that was interrupted between two draws gets the same values when it is resumed.

    Args:
        factory: makes an Optuna sampler from `seed=`.
        seed: the sweep's seed.
    """

    def __init__(self, factory: SamplerFactory, seed: int) -> None:
        self._factory, self._seed = factory, seed

    def _sampler(self, trial: FrozenTrial, *names: str) -> BaseSampler:
        return make_sampler(self._factory, self._seed, trial.number, *names)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that the sampler draws jointly."""
        self._relative = self._sampler(trial)  # kept for sample_relative, which Optuna calls next
        return self._relative.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw them, or return what the trial's earlier attempt drew: some samplers would draw anew."""
        if RELATIVE in trial.user_attrs:
            drawn = trial.user_attrs[RELATIVE]
            return {name: drawn[name] for name in drawn if name in search_space}
        return self._relative.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter."""
        sampler = self._sampler(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Passed on to the sampler."""
        self._sampler(trial).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Passed on to the sampler."""
        self._sampler(trial).after_trial(study, trial, state, values)


def use_sampler(study: optuna.Study, factory: SamplerFactory, seed: int) -> None:
    """Let the study's trials draw from the sampler; record it once every combination is tried."""
    study.sampler = SeededSampler(factory, seed)
    # The sampler calls `study.stop`, which Optuna 5.0 refuses outside of `study.optimize`.
    setattr(study, "stop", lambda: study.set_user_attr(EXHAUSTED, True))  # noqa: B010


def draw(
    trial: optuna.Trial,
    distributions: Mapping[str, BaseDistribution],
    custom: CustomSpace | None,
    config: DictConfig,
) -> dict[str, Any]:
    """Draw the trial's parameters; those that it already has stay.

    Args:
        trial: the claimed trial.
        distributions: the search space.
        custom: adds parameters, or None.
        config: the base configuration, for `custom`.

    Returns:
        values by key.
    """
    with warnings.catch_warnings(action="ignore"):  # initial trials may lie outside of the space
        # Drawn even if all parameters are given: NSGA-II and CMA-ES note the trial's generation as they draw.
        relative = trial.relative_params  # undocumented, as in Optuna 5.0
        if RELATIVE not in trial.user_attrs:
            trial.set_user_attr(RELATIVE, relative)
        values = {key: _suggest(trial, key, one) for key, one in distributions.items()}
        return {**values, **((custom(config, trial) or {}) if custom is not None else {})}


def _suggest(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(key, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(key, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(key, choices)
    raise TypeError(f"unknown distribution {distribution}")
