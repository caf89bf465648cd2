"""The parameters of a trial, drawn from (seed, trial number, key)."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from autocaption.randomness import seed_of
from autocaption.sweep.internals import SeededTrial
from autocaption.sweep.space import CustomSpace

Sampler = Callable[..., BaseSampler]  # takes seed=


def sampler_of(sampler: Sampler, seed: int, *names: object) -> BaseSampler:
    """A sampler seeded by the sweep's seed and names, such as a trial's number."""
    with warnings.catch_warnings(action="ignore"):  # experimental samplers
        return sampler(seed=seed_of("sweep", seed, *names) % 2**32)  # NumPy takes no more


def draw(
    trial: optuna.Trial,
    distributions: Mapping[str, BaseDistribution],
    custom: CustomSpace | None,
    config: DictConfig,
    sampler: Sampler,
    seed: int,
) -> dict[str, Any]:
    """The trial's values, by key.

    They depend on (seed, trial number, key) and the finished trials, not on how many were drawn before: a
    trial whose sweeper was killed between two of them gets the same ones again.
    """
    seeded = SeededTrial(trial, functools.partial(sampler_of, sampler, seed, trial.number))
    with warnings.catch_warnings(action="ignore"):  # initial values outside the space
        values = {key: seeded.suggest(key, one) for key, one in distributions.items()}
        return {**values, **((custom(config, seeded) or {}) if custom is not None else {})}
