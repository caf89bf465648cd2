"""What a sweep tries first."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.space import as_text

Distributions = Mapping[str, BaseDistribution]


def first_trials(
    distributions: Distributions,
    standing: DictConfig | None,
    enqueue: Sequence[Mapping[str, Any]],
    grid: bool,
    console: Console,
) -> list[Mapping[str, Any]]:
    """The configuration as it stands, and what `sweep.enqueue` adds.

    Args:
        distributions: the search space.
        standing: the configuration without it, `hydra` node included; None: not to be tried.
        enqueue: values by key.
        grid: whether the sampler tries every combination, so that there is none beside them.
        console: told where the configuration as it stands can't be tried.

    Raises:
        UserError: a value of `enqueue` is not of the space.
    """
    for values in enqueue:
        _check("sweep.enqueue: ", values, distributions, grid)
    if standing is None:
        return list(enqueue)
    try:
        baseline = _standing(distributions, standing)
        _check("", baseline, distributions, grid)
    except UserError as error:
        console.print(f"no baseline among the trials: {error}", soft_wrap=True)
        return list(enqueue)
    return [baseline, *enqueue]


def require_grid(distributions: Distributions) -> None:
    """See that the space has an end of combinations.

    Raises:
        UserError: an interval of real numbers is in it.
    """
    for key, distribution in distributions.items():
        if isinstance(distribution, FloatDistribution) and distribution.step is None:
            raise UserError(
                f"sweep/sampler=grid tries every combination, and {key} has no end of values; "
                f"take range(START, STOP, STEP) or choice(A, B)"
            )


def _standing(distributions: Distributions, config: DictConfig) -> dict[str, Any]:
    values = {}
    for key in distributions:
        name = key.lstrip("+")
        groups = config.hydra.runtime.choices
        value = groups[name] if name in groups else OmegaConf.select(config, name)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
        values[key] = value if isinstance(value, bool | int | float) else as_text(value)
    return values


def _check(where: str, values: Mapping[str, Any], distributions: Distributions, grid: bool) -> None:
    for key, value in values.items():
        if key not in distributions:
            raise UserError(f"{where}{key} is not in the search space ({', '.join(distributions)})")
        distribution = distributions[key]
        if isinstance(distribution, CategoricalDistribution) and value not in distribution.choices:
            raise UserError(f"{where}{key}={value} is not among {', '.join(map(str, distribution.choices))}")
        try:
            inside = distribution._contains(distribution.to_internal_repr(value))
        except ValueError:
            raise UserError(f"{where}{key}={value} is not a number") from None
        if grid and not inside:
            raise UserError(f"{where}{key}={value} is not on the grid")
