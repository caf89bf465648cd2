"""What a training prints."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar


class EpochLines(ProgressBar):
    """One line for each validation, as a log file needs it."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._start = time.monotonic()

    def disable(self) -> None:
        """Called by Lightning on ranks that print nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Called by Lightning on the rank that prints."""
        self._enabled = True

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print epoch, time and metrics of the validation."""
        if not self._enabled or trainer.sanity_checking:
            return
        metrics = [
            f"{name} {float(value):.3f}"
            for name, value in trainer.callback_metrics.items()
            if name in ("train/loss", "val/loss", "val/bleu1", "val/bleu4")
        ]
        elapsed = time.monotonic() - self._start
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        print("  ".join([epoch, f"{elapsed:.0f} s", *metrics]))


def progress_bar() -> ProgressBar:
    """A bar on a terminal, a line for each validation elsewhere."""
    return RichProgressBar() if sys.stderr.isatty() else EpochLines()
