"""What train.py and eval.py have in common; imports only Hydra until a task runs."""

import functools
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autocaption import ranks
from autocaption.config import require_values
from autocaption.errors import UserError
from autocaption.launch.parent import LAUNCHED, receive_config, watch_parent
from autocaption.ranks import RANKS
from autocaption.runs.folder import new_run_name, run_folder
from autocaption.runs.rank_folder import RankFolder

DEBUG = "AUTOCAPTION_DEBUG"


def command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a task under Hydra's command line; a user's mistake gives one line on stderr and exit code 1.

    Of several ranks the first one composes the configuration and makes the run folder, whoever started
    them; the others get both from it. A launched process, such as a trial of a sweep, gets its configuration
    through a pipe.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # we report its exceptions
    _quieten()
    if RANKS in os.environ and "LOCAL_RANK" in os.environ:  # Lightning started it
        return _run_as_rank(task, os.environ[RANKS])
    if LAUNCHED in os.environ:
        config: Any = OmegaConf.create(receive_config())
        watch_parent()
        _one_line_errors(lambda: task(config))
        return None
    if (rank := ranks.outside_rank()) is None:
        return _compose_and_run(task, config_name)
    ranks.rendezvous = _one_line_errors(lambda: ranks.Rendezvous(rank))
    assert ranks.rendezvous is not None
    if rank:
        return _run_as_rank(task, ranks.rendezvous.wait())
    try:
        return _compose_and_run(task, config_name)
    finally:
        ranks.rendezvous.end()


def _run_as_rank(task: Callable[[DictConfig], Any], folder: str) -> None:
    """Run with the configuration of rank 0, which reports the errors of all."""
    os.environ[RANKS] = folder  # for the ranks that Lightning starts on this node
    if LAUNCHED in os.environ:
        watch_parent()
    shared = RankFolder(Path(folder))
    config: Any = OmegaConf.create(shared.config())
    with shared.reported(_explain):
        task(config)


def _compose_and_run(task: Callable[[DictConfig], Any], config_name: str) -> None:
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_new_resolver("new_run_name", new_run_name, replace=True)
    folder = str(Path(sys.argv[0]).resolve().parent / "conf")
    # Around the task as well, before Hydra adds to its exceptions.
    job = functools.wraps(task)(lambda config: _one_line_errors(lambda: task(_complete(config))))
    _one_line_errors(hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(job))


def _one_line_errors(call: Callable[[], Any]) -> Any:
    """Call it; a user's mistake ends the process with one line and exit code 1."""
    try:
        return call()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        line = _explain(error)
        if os.environ.get(DEBUG):
            raise
        if line is None:
            if not (notes := getattr(error, "__notes__", [])):
                raise
            line = f"{type(error).__name__}: {_one_line(error)}; {notes[0]}"
        sys.exit(f"error: {line}")


def _complete(config: DictConfig) -> DictConfig:
    require_values(config)
    if "sweep" in config:
        raise UserError("sweep=... describes many runs, and this is one; add -m")
    return config


def _explain(error: BaseException) -> str | None:
    """The one line for a user's mistake; None for any other error."""
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps exceptions of constructors
        if isinstance(cause, UserError):
            # A DataLoader's worker passes it on as the last line of a traceback.
            return str(cause).rstrip().splitlines()[-1].removeprefix("autocaption.errors.UserError: ")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, InstantiationException):
        return _one_line(error) + "; check the override against `--cfg job`"
    if isinstance(error, HydraException):
        return f"{_one_line(error)}; `--help` lists groups and choices, `--cfg job` every value"
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):  # Hydra's
        return "a group cannot be null; take GROUP=none (logger=none, callbacks=none) or ~GROUP"
    if isinstance(error, OmegaConfBaseException):
        return _one_line(error)
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, for trainer=...
        return _one_line(error)
    return None


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("object_type="))


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
        ".*in eval mode at the start of training.*",  # a frozen encoder
    ):
        warnings.filterwarnings("ignore", message)
    if "SLURM_JOB_ID" not in os.environ:  # on a login node there is nothing to hint at
        warnings.filterwarnings("ignore", ".*The `srun` command is available.*")
