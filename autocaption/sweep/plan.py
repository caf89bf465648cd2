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
from autocaption.sweep.internals import contains
from autocaption.sweep.space import CustomSpace, Space, as_text, read
from autocaption.sweep.trials import compose

Distributions = Mapping[str, BaseDistribution]
MODES = {"maximize": "max", "minimize": "min"}  # Optuna's name: ModelCheckpoint's


@dataclass(frozen=True)
class Plan:
    """A sweep's configuration, read and checked.

    Attributes:
        settings: the `sweep` node.
        space: the search space, and the overrides that every trial has.
        base: the configuration without the search space, `hydra` node included.
        objective: metrics of a run; several make a Pareto front.
        direction: `maximize` or `minimize` for each.
        overrides: `space.fixed`, parsed.
        groups: keys among all overrides that choose a file of conf/.
        custom: adds to the search space, or None.
    """

    settings: DictConfig
    space: Space
    base: DictConfig
    objective: list[str]
    direction: list[str]
    overrides: list[Override]
    groups: list[str]
    custom: CustomSpace | None

    def definition(self) -> dict[str, Any]:
        """What must not change between the commands of one study."""
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
    """Read and check a sweep's configuration.

    Args:
        loader: Hydra's configuration loader.
        config: the configuration of the sweep's own command.
        arguments: the command line's overrides.
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
    base = compose(loader, config, [*settings.overrides, *space.fixed])
    require_values(base)
    overrides = parser.parse_overrides(space.fixed)
    keys = [override.key_or_group for override in overrides] + [
        key.lstrip("+") for key in space.distributions
    ]
    groups = [key for key in keys if loader.get_group_options(key)]
    _check_keys(space, groups, base)
    custom = _custom(settings.custom_space)
    return Plan(settings, space, base, objective, direction, overrides, groups, custom)


def _check_keys(space: Space, groups: list[str], base: DictConfig) -> None:
    """Find a mistyped key now; where a group is varied, its choices' keys are not known yet."""
    if not set(groups).isdisjoint(key.lstrip("+") for key in space.distributions):
        return
    nothing = object()
    for key in space.distributions:
        if not key.startswith("+") and OmegaConf.select(base, key, default=nothing) is nothing:
            raise UserError(f"the configuration has no {key} to search; +{key}=... adds it")


def _custom(name: str | None) -> CustomSpace | None:
    try:
        return get_method(name) if name else None
    except Exception as error:  # including what its module raises on import
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
    base: DictConfig | None,
    enqueue: Sequence[Mapping[str, Any]],
    grid: bool,
    console: Console,
) -> list[Mapping[str, Any]]:
    """The parameters of the first trials: the baseline, then those of `sweep.enqueue`.

    Args:
        distributions: the search space.
        base: the configuration without it, `hydra` node included; None for no baseline.
        enqueue: parameters by key, for each trial.
        grid: whether the sampler is a grid, which takes no trials beside its own.
        console: says why there is no baseline, where there is none.

    Raises:
        UserError: a value of `enqueue` is not in the search space.
    """
    for values in enqueue:
        _check("sweep.enqueue: ", values, distributions, grid)
    if base is None:
        return list(enqueue)
    try:
        baseline = _baseline(distributions, base)
        _check("", baseline, distributions, grid)
    except UserError as error:
        console.print(f"no baseline among the trials: {error}", soft_wrap=True)
        return list(enqueue)
    return [baseline, *enqueue]


def require_grid(distributions: Distributions) -> None:
    """Check that the search space is finite.

    Raises:
        UserError: it holds an interval of real numbers.
    """
    for key, distribution in distributions.items():
        if isinstance(distribution, FloatDistribution) and distribution.step is None:
            raise UserError(
                f"sweep/sampler=grid tries every combination, but {key} is continuous; "
                f"take range(START, STOP, STEP) or choice(A, B)"
            )


def _baseline(distributions: Distributions, config: DictConfig) -> dict[str, Any]:
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
            inside = contains(distribution, value)
        except ValueError:
            raise UserError(f"{where}{key}={value} is not a number") from None
        if grid and not inside:
            raise UserError(f"{where}{key}={value} is not on the grid")
