"""The sweeper plugin that Hydra discovers; the work is done in autocaption/sweep.

Hydra imports this file for every command, so it imports nothing slow. It has no postponed annotations
either: Hydra's plugin scanner fails on them in dataclasses.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class AutocaptionSweeper(Sweeper):
    """Optuna as a Hydra sweeper, chosen by `sweep=...`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the context and configuration; the task isn't called, since trials are processes."""
        self._context, self._config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the missing trials of the sweep."""
        from autocaption.sweep.command import sweep

        return sweep(self._context, self._config, arguments)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="autocaption",
    node={"_target_": f"{__name__}.AutocaptionSweeper"},
    provider="autocaption",
)
