import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from autocaption.data.randomness import seed_of
from autocaption.sweep.space import CustomSpace

Sampler = Callable[..., BaseSampler]  # takes seed=


def sampler_of(sampler: Sampler, seed: int, *names: object) -> BaseSampler:
    """A sampler seeded by the sweep's seed and names, such as a trial's number."""
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
    study = trial.study
    study.sampler = sampler_of(sampler, seed, trial.number)
    _ = trial.relative_params  # drawn together and kept, for samplers that do so
    values = {}
    for key, distribution in distributions.items():
        study.sampler = sampler_of(sampler, seed, trial.number, key)
        with warnings.catch_warnings(action="ignore"):  # of first values outside the space
            values[key] = trial._suggest(key, distribution)  # Optuna's suggest_* for any distribution
    if custom is not None:
        values |= custom(config, trial) or {}
    return values
