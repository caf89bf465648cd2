"""The secrets of a run that can be resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from autocaption.runs.kept_secrets import forget, keep


class SecretsKept(pl.Callback):
    """Keeps the secrets once there is something to resume, so that a run killed before leaves none.

    Args:
        folder: the run folder.
        config: the configuration in plain values, with its secrets.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder, self.config = folder, config

    def on_fit_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Those of a resumed run are this attempt's from here on."""
        if trainer.ckpt_path is not None:
            keep(self.folder, self.config)
        else:
            forget(self.folder)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep them just before a checkpoint is written."""
        keep(self.folder, self.config)
