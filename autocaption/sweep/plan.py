"""What a sweep's configuration and command line ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.space import Space, checked_values, read, standing_values
from autocaption.sweep.trial_config import compose

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
    """

    settings: DictConfig
    space: Space
    standing: DictConfig
    objective: list[str]
    direction: list[str]
    overrides: list[Override]
    groups: list[str]

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

    def first(self, console: Console) -> list[Mapping[str, Any]]:
        """The trials to begin with: the configuration as it stands, and those of `sweep.enqueue`."""
        given: Any = OmegaConf.to_container(self.settings.enqueue)
        for values in given:
            checked_values(values, self.space.distributions)
        if not self.settings.baseline:
            return given
        try:
            return [standing_values(self.space.distributions, self.standing), *given]
        except UserError as error:
            console.print(f"no baseline among the trials: {error}", soft_wrap=True)
            return given


def read_plan(loader: ConfigLoader, config: DictConfig, arguments: list[str]) -> Plan:
    """Read and check what is asked for.

    Args:
        loader: Hydra's.
        config: of the sweep's own command.
        arguments: the overrides of its command line.
    """
    settings = config.sweep
    parser = OverridesParser.create(config_loader=loader)
    space = read(settings.space, arguments, parser)
    if not space.distributions and settings.custom_space is None:
        raise UserError("nothing to search: give sweep=show_and_tell, or KEY=interval(LOW, HIGH)")
    objective, direction = _objective(settings)
    standing = compose(loader, config, [*settings.overrides, *space.fixed])
    overrides = parser.parse_overrides(space.fixed)
    keys = [override.key_or_group for override in overrides] + [
        key.lstrip("+") for key in space.distributions
    ]
    groups = [key for key in keys if loader.get_group_options(key)]
    return Plan(settings, space, standing, objective, direction, overrides, groups)


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
