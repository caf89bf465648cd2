"""What a sweep's configuration and command line ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from rich.console import Console

from autocaption.config import require_values
from autocaption.errors import UserError
from autocaption.sweep.space import CustomSpace, Space, as_text, read
from autocaption.sweep.trials import compose

Distributions = Mapping[str, BaseDistribution]
MODES = {"maximize": "max", "minimize": "min"}  # Optuna's word: a checkpoint's


@dataclass(frozen=True)
class Plan:
    """A sweep, read and checked.

    Attributes:
        settings: the `sweep` node.
        space: what is varied and what is held.
        standing: the configuration without the search space, `hydra` node included.
        objective: figures of a run; several make a Pareto front.
        direction: `maximize` or `minimize` for each.
        overrides: those of `space.fixed`, parsed.
        groups: keys among all overrides that choose a file of conf/.
        custom: adds to the search space, or None.
    """

    settings: DictConfig
    space: Space
    standing: DictConfig
    objective: list[str]
    direction: list[str]
    overrides: list[Override]
    groups: list[str]
    custom: CustomSpace | None

    def definition(self) -> dict[str, Any]:
        """What has to stay as it is for the trials of a study to be comparable."""
        free = tuple(self.settings.may_differ)

        def matters(key: str) -> bool:
            return not any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in free)

        return {
            "space": self.space.described(),
            "custom_space": self.settings.custom_space,
            "objective": self.objective,
            "direction": self.direction,
            "fixed": [str(one.input_line) for one in self.overrides if matters(one.key_or_group)],
        }


def read_plan(loader: ConfigLoader, config: DictConfig, arguments: list[str]) -> Plan:
    """Read and check what is asked for.

    Args:
        loader: Hydra's.
        config: of the sweep's own command.
        arguments: the overrides of its command line.
    """
    settings = config.sweep
    for name in ("n_trials", "n_jobs"):
        if not isinstance(settings[name], int) or settings[name] < 1:
            raise UserError(f"sweep.{name}={settings[name]}: give a number from 1")
    parser = OverridesParser.create(config_loader=loader)
    space = read(settings.space, arguments, parser)
    if not space.distributions and settings.custom_space is None:
        raise UserError("nothing to search: give sweep=show_and_tell, or KEY=interval(LOW, HIGH)")
    objective, direction = _objective(settings)
    standing = compose(loader, config, [*settings.overrides, *space.fixed])
    require_values(standing)
    overrides = parser.parse_overrides(space.fixed)
    keys = [override.key_or_group for override in overrides] + [
        key.lstrip("+") for key in space.distributions
    ]
    groups = [key for key in keys if loader.get_group_options(key)]
    _check_keys(space, groups, standing)
    custom = _custom(settings.custom_space)
    return Plan(settings, space, standing, objective, direction, overrides, groups, custom)


def _check_keys(space: Space, groups: list[str], standing: DictConfig) -> None:
    """Find a mistyped key now, and not in every trial; what a varied choice brings along isn't known yet."""
    if not set(groups).isdisjoint(key.lstrip("+") for key in space.distributions):
        return
    nothing = object()
    for key in space.distributions:
        if not key.startswith("+") and OmegaConf.select(standing, key, default=nothing) is nothing:
            raise UserError(f"the configuration has no {key} to search; +{key}=... adds it")


def _custom(name: str | None) -> CustomSpace | None:
    try:
        return get_method(name) if name else None
    except Exception as error:  # also what its module raises when it is imported
        line = str(error).strip().splitlines()[-1]
        raise UserError(f"sweep.custom_space={name} is no function that can be imported: {line}") from error


def _objective(settings: DictConfig) -> tuple[list[str], list[str]]:
    objective, direction = (
        [value] if isinstance(value, str) else list(value)
        for value in (settings.objective, settings.direction)
    )
    if len(objective) != len(direction) or not set(direction) <= set(MODES):
        raise UserError(
            f"sweep.direction={settings.direction}: give {' or '.join(MODES)} for each of "
            f"sweep.objective={settings.objective}"
        )
    return objective, direction


def initial_trials(
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
