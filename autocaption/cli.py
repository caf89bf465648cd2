"""What the commands train and eval have in common; imports only Hydra until a task runs."""

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from autocaption import ranks
from autocaption.checks import as_path, with_home
from autocaption.config import require_values
from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.files import conf_folder
from autocaption.known_keys import require_read
from autocaption.launch.devices import announced
from autocaption.launch.parent import JOB_CONFIG, LAUNCHED, receive_config, watch_parent
from autocaption.launch.signals import stopped_by_signals
from autocaption.machine import keep_freed_memory
from autocaption.mistakes import FROM_CHECKPOINTS, from_checkpoint
from autocaption.ranks import RANKS
from autocaption.runs.folder import new_run_name, removed_where_unused, run_folder
from autocaption.runs.rank_folder import RankFolder

log = logging.getLogger(__name__)


def command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a task under Hydra's command line; a user's mistake gives one line on stderr and exit code 1.

    Of several ranks the first one composes the configuration and makes the run folder, whoever started
    them; the others get both from it. A launched process, such as a trial of a sweep, gets its configuration
    through a pipe, or from a file.
    """
    with stopped_by_signals():
        _run(task, config_name)


def _run(task: Callable[[DictConfig], Any], config_name: str) -> None:
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # we report its exceptions
    keep_freed_memory()
    logging.raiseExceptions = False  # a full disk gives no traceback for each line of the log
    _quieten()
    sys.argv[1:] = with_home(sys.argv[1:])
    if RANKS in os.environ and "LOCAL_RANK" in os.environ:  # Lightning started it
        return _run_as_rank(task, os.environ[RANKS])
    run = functools.partial(_compose_and_run, task, config_name)
    if LAUNCHED in os.environ or JOB_CONFIG in os.environ:
        run = functools.partial(_run_launched, task)
    rank = None if LAUNCHED in os.environ else ranks.outside_rank()
    if rank is None:
        return run()
    ranks.rendezvous = one_line_errors(functools.partial(ranks.Rendezvous, rank))
    assert ranks.rendezvous is not None
    if rank:
        return _run_as_rank(task, ranks.rendezvous.wait())
    try:
        return run()
    finally:
        ranks.rendezvous.end()


def _run_launched(task: Callable[[DictConfig], Any]) -> None:
    """Run with the configuration that the parent, or the submitter of a job on a cluster, has resolved."""
    config: Any = OmegaConf.create(receive_config())
    if LAUNCHED in os.environ:
        watch_parent()
    one_line_errors(lambda: task(config), Path(config.run_dir))


def _run_as_rank(task: Callable[[DictConfig], Any], folder: str) -> None:
    """Run with the configuration of rank 0, which reports the errors of all."""
    os.environ[RANKS] = folder  # for the ranks that Lightning starts on this node
    if LAUNCHED in os.environ:
        watch_parent()
    shared = RankFolder(Path(folder))
    config: Any = OmegaConf.create(shared.config())
    with shared.reported():
        task(config)


def _compose_and_run(task: Callable[[DictConfig], Any], config_name: str) -> None:
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_new_resolver("user_path", lambda path: str(as_path("runs_dir", path)), replace=True)
    OmegaConf.register_new_resolver("new_run_name", new_run_name, replace=True)

    # Around the task as well, before Hydra adds to its exceptions.
    @functools.wraps(task)
    def job(config: DictConfig) -> Any:
        folder = Path(HydraConfig.get().runtime.output_dir)
        with removed_where_unused(folder):
            return one_line_errors(lambda: _run_alone(task, _complete(config)), folder)

    if {"--cfg", "-c"} & set(sys.argv) and (key := from_checkpoint()):
        print(f"{key}=: what the checkpoint adds to this configuration is not shown", file=sys.stderr)
    run = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(job)
    one_line_errors(lambda: require_read(sys.argv[1:]))
    one_line_errors(run)


def _run_alone(task: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """Run a task that no sweep or multirun has given GPUs; those that run beside it take others first."""
    accelerator, devices = (OmegaConf.select(config, f"trainer.{key}") for key in ("accelerator", "devices"))
    with announced(accelerator, devices):
        return task(config)


def _complete(config: DictConfig) -> DictConfig:
    if not any(config.get(key) for key in FROM_CHECKPOINTS):
        require_values(config)
    if "sweep" in config:
        raise UserError("sweep=... describes many runs, and this is one; add -m")
    job: Any = HydraConfig.get()
    if job.job.chdir:
        os.chdir(job.runtime.cwd)
        log.warning("hydra.job.chdir is not followed: relative paths mean the folder of the command")
    return config


def _quieten() -> None:
    """Silence warnings that ask nothing of the user."""
    for message in (
        ".*does not have many workers.*",
        ".*sync_dist=True.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*torch.distributed.* is deprecated.*",
        ".*LeafSpec.*",
        r"\s*'hydra/launcher/submitit_slurm' is validated against.*",  # its plugin has one of that name, too
        ".*in eval mode at the start of training.*",  # a frozen encoder
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # our loader resumes exactly
        ".*FSDP2-wrapped module .* returned a view tensor.*",  # on which nothing here works in place
    ):
        warnings.filterwarnings("ignore", message)
    if "SLURM_JOB_ID" not in os.environ:  # on a login node there is nothing to hint at
        warnings.filterwarnings("ignore", ".*The `srun` command is available.*")
