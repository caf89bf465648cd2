"""The trials that a sweep runs first: its baseline, and those of `sweep.enqueue`."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.space import as_text

Distributions = Mapping[str, BaseDistribution]


def initial_trials(
    distributions: Distributions,
    base_config: DictConfig | None,
    enqueue: Sequence[Mapping[str, Any]],
    grid: bool,
    console: Console,
) -> list[Mapping[str, Any]]:
    """The parameters of the trials to run first: the baseline, then those of `sweep.enqueue`.

    Args:
        distributions: the search space.
        base_config: the configuration whose values are the baseline, `hydra` node included; None for no
            baseline.
        enqueue: parameters by key.
        grid: whether the sampler tries every combination, so that no other values may be tried.
        console: where to say that the baseline can't be tried, and why.

    Raises:
        UserError: `enqueue` has a key or value that the search space doesn't have.
    """
    for params in enqueue:
        _check("sweep.enqueue: ", params, distributions, grid)
    if base_config is None:
        return list(enqueue)
    try:
        baseline = _baseline(distributions, base_config)
        _check("", baseline, distributions, grid)
    except UserError as error:
        console.print(f"no baseline among the trials: {error}", soft_wrap=True)
        return list(enqueue)
    return [baseline, *enqueue]


def require_grid(distributions: Distributions) -> None:
    """Check that the search space has finitely many combinations.

    Raises:
        UserError: names an interval of real numbers.
    """
    for key, distribution in distributions.items():
        if isinstance(distribution, FloatDistribution) and distribution.step is None:
            raise UserError(
                f"sweep/sampler=grid tries every combination, and {key} has infinitely many values; "
                f"take range(START, STOP, STEP) or choice(A, B)"
            )


def _baseline(distributions: Distributions, config: DictConfig) -> dict[str, Any]:
    params = {}
    for key in distributions:
        name = key.lstrip("+")
        choices = config.hydra.runtime.choices
        value = choices[name] if name in choices else OmegaConf.select(config, name)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
        params[key] = value if isinstance(value, bool | int | float) else as_text(value)
    return params


def _check(prefix: str, params: Mapping[str, Any], distributions: Distributions, grid: bool) -> None:
    for key, value in params.items():
        if key not in distributions:
            raise UserError(f"{prefix}{key} is not in the search space ({', '.join(distributions)})")
        distribution = distributions[key]
        if isinstance(distribution, CategoricalDistribution) and value not in distribution.choices:
            raise UserError(f"{prefix}{key}={value} is not among {', '.join(map(str, distribution.choices))}")
        try:
            distribution.to_internal_repr(value)
        except ValueError:
            raise UserError(f"{prefix}{key}={value} is not a number") from None
        if grid and not _contains(distribution, value):
            raise UserError(f"{prefix}{key}={value} is not on the grid")


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        create_trial(state=TrialState.WAITING, params={"x": value}, distributions={"x": distribution})
    except ValueError:
        return False
    return True
