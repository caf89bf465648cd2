import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar

SHOWN = ("train/loss", "train/reward", "val/loss", "val/bleu4", "val/cider")


class EpochLines(ProgressBar):
    """Prints one line after each validation, for log files."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._start = time.monotonic()

    def disable(self) -> None:
        """Print nothing; Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print epoch, seconds since the start of training, and metrics."""
        if not self._enabled or trainer.sanity_checking:
            return
        values = trainer.callback_metrics
        metrics = [f"{name} {float(values[name]):.3f}" for name in SHOWN if name in values]
        elapsed = time.monotonic() - self._start
        endless = trainer.max_epochs in (None, -1)
        epoch = f"epoch {trainer.current_epoch + 1}" + ("" if endless else f"/{trainer.max_epochs}")
        print("  ".join([epoch, f"{elapsed:.0f} s", *metrics]), flush=True)


def progress_bar() -> ProgressBar:
    """A progress bar in a terminal, otherwise a line an epoch."""
    return RichProgressBar() if sys.stderr.isatty() else EpochLines()
