"""What a sweep's configuration and command line ask for."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from autocaption.checks import number, whole
from autocaption.config import require_values
from autocaption.errors import UserError
from autocaption.monitored import configured_scores, require_logged
from autocaption.runs.provenance import hide_argument, holds_secret
from autocaption.sweep.space import CustomSpace, Space, as_text, read_space
from autocaption.sweep.study import as_list, check_name
from autocaption.sweep.trials import compose
from autocaption.trainer_settings import require_validated

MODES = {"maximize": "max", "minimize": "min"}  # Optuna's directions, as modes of a checkpoint
# Keys of which what a trial logs depends; where they are searched, the trial checks its objective itself.
MONITORING = "metrics", "callbacks", "experiment"
VALIDATING = "trainer", "experiment", "debug"  # likewise, of which it depends whether a trial validates


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
            "fixed": [_without_secret(one) for one in self.fixed if counts(one.key_or_group)],
        }


def _without_secret(override: Override) -> str:
    """An override as Hydra's grammar takes it, without the secret in it."""
    line = str(override.input_line)
    if (hidden := hide_argument(line)) == line:
        return line
    key, _, value = hidden.partition("=")
    return f"{key}={as_text(value)}"


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
    for name, least in (("n_trials", 1), ("n_jobs", 1), ("max_failures", 0), ("retries", 0)):
        whole(f"sweep.{name}", settings[name], least)
    for name in ("heartbeat", "grace"):
        number(f"sweep.{name}", settings[name], above=0)
    number("sweep.storage_timeout", settings.storage_timeout, at_least=0)
    for name in ("overrides", "enqueue", "may_differ"):
        if not OmegaConf.is_list(settings[name]):
            raise UserError(f"sweep.{name}={settings[name]}: give a list")
    if not OmegaConf.is_dict(settings.space):
        raise UserError(f"sweep.space={settings.space}: give {{KEY: interval(LOW, HIGH)}}")
    check_name(settings.study_name)
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
    if custom is None and not any(key.lstrip("+").startswith(MONITORING) for key in space.distributions):
        require_logged(base_config, configured_scores(base_config), objective)
    if custom is None and not any(key.lstrip("+").startswith(VALIDATING) for key in space.distributions):
        trainer: Any = OmegaConf.to_container(base_config.trainer, resolve=True)
        require_validated(trainer)
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
    objective, direction = (as_list(one) if one else [] for one in (settings.objective, settings.direction))
    if not objective or len(objective) != len(direction) or not set(direction) <= set(MODES):
        raise UserError(
            f"sweep.direction={settings.direction}: give {' or '.join(MODES)} for each of "
            f"sweep.objective={settings.objective}"
        )
    return objective, direction
