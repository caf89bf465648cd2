"""Weights & Biases as a logger."""

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
from autocaption.runs.run import read

log = logging.getLogger(__name__)


def wandb_logger(folder: str, project: str, **settings: Any) -> WandbLogger:
    """Weights & Biases: online where a key is configured, offline otherwise.

    Unless an id is given, the W&B run has the run's (run.json), so that a resumed run continues the same W&B
    run, and a renamed folder does not become another.

    Args:
        folder: the run folder, where W&B's files lie.
        project: W&B's project.
        settings: passed on to WandbLogger, such as id, name, entity, group, tags.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    record = read(Path(folder))
    settings = {"id": record["id"] if record else None, "name": Path(folder).name, **settings}
    if mode == "offline" and is_first_rank():
        log.info("W&B: no key configured, so this run is logged offline; `wandb sync` can upload it later")
    os.environ.setdefault("WANDB_SILENT", "true")
    if command_line() != sys.argv:
        import wandb

        # W&B stores the command line among its metadata, and there is a secret in it.
        settings["settings"] = wandb.Settings(x_disable_meta=True)
    logger = WandbLogger(save_dir=folder, project=project, resume="allow", mode=mode, **settings)
    _without_anonymous(logger)
    return logger


def has_key() -> bool:
    """Whether there is a W&B API key, in the environment or (by `wandb login`) in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _without_anonymous(logger: WandbLogger) -> None:
    """Drop a setting that Lightning (2.6) always passes and that wandb (0.31.0) warns of."""
    logger._wandb_init.pop("anonymous", None)


def log_file(logger: WandbLogger, file: Path, kind: str) -> None:
    """Keep a file with W&B's run, as an artifact of this kind that is named after kind and run."""
    import wandb

    artifact = wandb.Artifact(f"{kind}-{logger.experiment.id}", kind)
    artifact.add_file(str(file))
    logger.experiment.log_artifact(artifact)


def close_wandb(exit_code: int) -> None:
    """End W&B's run, if there is one, as finished (0) or failed, or, where it was marked so, preempted."""
    if "wandb" in sys.modules:
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=exit_code)
