import logging
import netrc
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import WandbLogger

from autocaption.ranks import is_first_rank
from autocaption.runs.provenance import command_line

log = logging.getLogger(__name__)


def wandb_logger(folder: str, project: str, **settings: Any) -> WandbLogger:
    """Weights & Biases: online where a key is configured, offline otherwise.

    The W&B run takes its id, where none is given, from the run folder's name, so that a resumed run
    goes on in the same W&B run.

    Args:
        folder: of the run; W&B's files lie under it.
        project: of W&B.
        settings: passed on to WandbLogger, such as id, name, entity, group, tags.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    settings = {"id": Path(folder).name, "name": Path(folder).name, **settings}
    if mode == "offline" and is_first_rank():
        log.info("W&B: no key configured, so this run is logged offline; `wandb sync` can upload it later")
    os.environ.setdefault("WANDB_SILENT", "true")
    if command_line() != sys.argv:
        import wandb

        # W&B keeps the command line with its other metadata of the run; there is a secret in it.
        settings["settings"] = wandb.Settings(x_disable_meta=True)
    logger = WandbLogger(save_dir=folder, project=project, resume="allow", mode=mode, **settings)
    logger._wandb_init.pop("anonymous", None)  # Lightning always sets it, and wandb warns of it
    return logger


def has_key() -> bool:
    """Whether a W&B API key is at hand, in the environment or (by `wandb login`) in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
