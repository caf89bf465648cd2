import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from autocaption.randomness import seed_of
from autocaption.sweep.space import CustomSpace
from autocaption.sweep.study import RELATIVE

Sampler = Callable[..., BaseSampler]  # takes seed=


def sampler_of(sampler: Sampler, seed: int, *names: object) -> BaseSampler:
    """A sampler seeded by the sweep's seed and names, such as a trial's number."""
    with warnings.catch_warnings(action="ignore"):  # of what is experimental
        return sampler(seed=seed_of("sweep", seed, *names) % 2**32)  # what NumPy takes


def draw(
    trial: optuna.Trial,
    distributions: Mapping[str, BaseDistribution],
    custom: CustomSpace | None,
    config: DictConfig,
    sampler: Sampler,
    seed: int,
) -> dict[str, Any]:
    """The trial's values, by key.

    They hang on (seed, trial number, key) and the finished trials, not on how many were drawn before: a
    trial whose sweeper was killed between two of them gets the same ones again.
    """
    seeded = _SeededTrial(trial, sampler, seed)
    with warnings.catch_warnings(action="ignore"):  # of first values outside the space
        values = {key: seeded._suggest(key, one) for key, one in distributions.items()}
        return {**values, **((custom(config, seeded) or {}) if custom is not None else {})}


class _SeededTrial(optuna.Trial):
    """A trial that draws each of its parameters with a seed of its own, in whatever order they are asked."""

    def __init__(self, trial: optuna.Trial, sampler: Sampler, seed: int) -> None:
        self._sampler_of = lambda *names: sampler_of(sampler, seed, trial.number, *names)
        super().__init__(trial.study, trial._trial_id)

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        _ = self.relative_params  # first of all, whichever parameter is asked first
        self.study.sampler = self._sampler_of(name)
        return super()._suggest(name, distribution)

    @property
    def relative_params(self) -> dict[str, Any]:
        """What the sampler draws together; kept, since some samplers would not draw it again alike."""
        if self._relative_params is None:
            self.study.sampler = self._sampler_of()
            kept = self.user_attrs.get(RELATIVE)
            if kept is None:
                self.set_user_attr(RELATIVE, super().relative_params)
            else:
                study = optuna.pruners._filter_study(self.study, self._cached_frozen_trial)
                self.relative_search_space = self.study.sampler.infer_relative_search_space(
                    study, self._cached_frozen_trial
                )
                self._relative_params = kept
        assert self._relative_params is not None
        return self._relative_params
