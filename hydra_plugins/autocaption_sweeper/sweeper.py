"""The class that Hydra finds; the work is done in autocaption/sweep.

Hydra imports this file with every command, so it imports nothing heavy, and its scanner crashes on
postponed annotations in dataclasses.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class AutocaptionSweeper(Sweeper):
    """Optuna as a sweeper, chosen by `sweep=...`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; trials are processes, so the task is never called here."""
        self._context, self._config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is missing of the sweep."""
        from autocaption.sweep.command import sweep

        return sweep(self._context, self._config, arguments)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="autocaption",
    node={"_target_": f"{__name__}.AutocaptionSweeper"},
    provider="autocaption",
)
