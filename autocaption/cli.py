"""What train.py and eval.py have in common; imports nothing but Hydra until a task runs."""

import logging
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

from autocaption.errors import UserError
from autocaption.run_folder import run_folder

DEBUG = "AUTOCAPTION_DEBUG"
RANK_CONFIG = "AUTOCAPTION_RANK_CONFIG"  # the file with the configuration of a rank's parent


def command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a task under Hydra's command line; a user's mistake is one line on stderr and exit code 1.

    Lightning starts the other ranks of a multi-device run with the command line of this one. Such
    a rank takes the configuration that its parent resolved, since composing it again could give
    another one.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # leave its exceptions to us
    _quieten()
    debug = bool(os.environ.get(DEBUG))
    try:
        if "LOCAL_RANK" in os.environ and RANK_CONFIG in os.environ:
            config = OmegaConf.load(os.environ[RANK_CONFIG])
            assert isinstance(config, DictConfig)
            task(config)
            return
        OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
        folder = str(Path(sys.argv[0]).resolve().parent / "conf")
        hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(task)()
    except KeyboardInterrupt:
        sys.exit("interrupted" if not debug else 130)
    except Exception as error:
        line = _explain(error)
        if debug or line is None:
            raise
        sys.exit(f"error: {line}")


def _explain(error: BaseException) -> str | None:
    """One line for a user's mistake, None for anything else."""
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps what a constructor raises
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, InstantiationException):
        return _one_line(error) + "; check the override against `--cfg job`"
    if isinstance(error, HydraException):
        return f"{_one_line(error)}; `--help` lists groups and choices, `--cfg job` every value"
    if isinstance(error, OmegaConfBaseException):
        if "Missing mandatory value" in str(error):
            return f"no value for {error.full_key}; give it with {error.full_key}=VALUE"
        return _one_line(error)
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, for trainer=...
        return _one_line(error)
    return None


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("object_type="))


def _quieten() -> None:
    """Silence remarks that tell a user nothing to do."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*sync_dist=True.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*torch.distributed.* is deprecated.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message)
