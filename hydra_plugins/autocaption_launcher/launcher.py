"""The class that Hydra finds; the work is done in autocaption/launch.

Hydra imports this file with every command, so it imports nothing heavy, and its scanner crashes on
postponed annotations in dataclasses.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class AutocaptionLauncher(Launcher):
    """Jobs of a multirun as processes of their own on this machine.

    Args:
        n_jobs: how many run at a time.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; jobs are processes, so the task is never called here."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that have not finished yet."""
        from autocaption.launch.multirun import Processes, launch

        def run(jobs: Any, console: Any) -> int:
            return Processes(jobs, self.n_jobs, console).run()

        return launch(self._context, self._config, job_overrides, initial_job_idx, run)


class SlurmLauncher(Launcher):
    """Jobs of a multirun as Slurm jobs (conf/hydra/launcher/submitit_slurm.yaml).

    Args:
        settings: what the jobs ask of Slurm, in submitit's words.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; jobs are processes, so the task is never called here."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs that have not finished yet, and wait for them."""
        from autocaption.launch.array import run
        from autocaption.launch.multirun import launch

        return launch(self._context, self._config, job_overrides, initial_job_idx, run)


def _node() -> dict[str, Any]:
    return {"_target_": f"{__name__}.AutocaptionLauncher", "n_jobs": 1}


ConfigStore.instance().store(group="hydra/launcher", name="autocaption", node=_node(), provider="autocaption")
