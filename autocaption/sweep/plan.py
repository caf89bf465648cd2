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
from optuna.trial import TrialState, create_trial
from rich.console import Console

from autocaption.config import require_values
from autocaption.errors import UserError
from autocaption.runs.provenance import hide_argument, holds_secret
from autocaption.sweep.space import CustomSpace, Space, as_text, read_space
from autocaption.sweep.study import as_list
from autocaption.sweep.trials import compose

Distributions = Mapping[str, BaseDistribution]
MODES = {"maximize": "max", "minimize": "min"}  # Optuna's directions, as modes of a checkpoint


@dataclass(frozen=True)
class Plan:
    """A sweep as asked for, checked.

    Attributes:
        settings: the `sweep` node of the configuration.
        space: the search space and the fixed overrides.
        base_config: the configuration with the fixed overrides only, `hydra` node included.
        objective: the metrics to optimize; several give a Pareto front.
        direction: `maximize` or `minimize` for each of them.
        fixed: the fixed overrides, parsed.
        groups: those keys of all overrides that are config groups.
        custom: the custom search space, or None.
    """

    settings: DictConfig
    space: Space
    base_config: DictConfig
    objective: list[str]
    direction: list[str]
    fixed: list[Override]
    groups: list[str]
    custom: CustomSpace | None

    def definition(self) -> dict[str, Any]:
        """The settings that must not change if a study's trials are to be comparable."""
        ignored = tuple(self.settings.may_differ)

        def counts(key: str) -> bool:
            return not any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in ignored)

        return {
            "space": self.space.as_json(),
            "custom_space": self.settings.custom_space,
            "objective": self.objective,
            "direction": self.direction,
            "fixed": [
                hide_argument(str(override.input_line))
                for override in self.fixed
                if counts(override.key_or_group)
            ],
        }


def read_plan(loader: ConfigLoader, config: DictConfig, arguments: list[str]) -> Plan:
    """Read what a sweep's command asks for, and find its mistakes before the first trial.

    Args:
        loader: Hydra's config loader.
        config: the configuration of the sweep's command.
        arguments: the overrides on its command line.

    Raises:
        UserError: names the first mistake.
    """
    settings = config.sweep
    for name in ("n_trials", "n_jobs"):
        if not isinstance(settings[name], int) or settings[name] < 1:
            raise UserError(f"sweep.{name}={settings[name]}: give a whole number, 1 or more")
    parser = OverridesParser.create(config_loader=loader)
    space = read_space(settings.space, arguments, parser)
    if not space.distributions and settings.custom_space is None:
        raise UserError("nothing to search: give sweep=show_and_tell, or KEY=interval(LOW, HIGH)")
    objective, direction = _objective(settings)
    base_config = compose(loader, config, [*settings.overrides, *space.fixed])
    require_values(base_config)
    fixed = parser.parse_overrides(space.fixed)
    keys = [override.key_or_group for override in fixed] + [key.lstrip("+") for key in space.distributions]
    groups = [key for key in keys if loader.get_group_options(key)]
    _check_keys(space, groups, base_config)
    custom = _custom_space(settings.custom_space)
    return Plan(settings, space, base_config, objective, direction, fixed, groups, custom)


def _check_keys(space: Space, groups: list[str], base_config: DictConfig) -> None:
    """Refuse a secret, and a mistyped key unless a group is searched, whose choices may add keys."""
    for key in space.distributions:
        if holds_secret(f"{key}=x"):
            raise UserError(f"{key} is a secret, and a study stores what it searches; give it one value")
    if not set(groups).isdisjoint(key.lstrip("+") for key in space.distributions):
        return
    absent = object()
    for key in space.distributions:
        if not key.startswith("+") and OmegaConf.select(base_config, key, default=absent) is absent:
            raise UserError(f"the configuration has no {key} to search; +{key}=... adds it")


def _custom_space(name: str | None) -> CustomSpace | None:
    try:
        return get_method(name) if name else None
    except Exception as error:  # anything that importing its module raises
        line = str(error).strip().splitlines()[-1]
        raise UserError(f"sweep.custom_space={name} can't be imported as a function: {line}") from error


def _objective(settings: DictConfig) -> tuple[list[str], list[str]]:
    objective, direction = as_list(settings.objective), as_list(settings.direction)
    if len(objective) != len(direction) or not set(direction) <= set(MODES):
        raise UserError(
            f"sweep.direction={settings.direction}: give {' or '.join(MODES)} for each of "
            f"sweep.objective={settings.objective}"
        )
    return objective, direction


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
