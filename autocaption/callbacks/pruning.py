"""Pruning of trials."""

import math
from typing import Any, Protocol

import pytorch_lightning as pl

from autocaption.errors import UserError


class Reporter(Protocol):
    """Where values are reported to (launch/parent.py)."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Report the value after this many epochs; returns whether to prune."""
        ...


class Pruning(pl.Callback):
    """Reports a metric after every validation and stops the run, cleanly, where it is pruned.

    Rank 0 reports; all ranks stop.

    Args:
        monitor: the metric, such as `val/bleu4`.
        mode: `max` or `min`.
        reporter: takes the value and answers whether to prune.

    Attributes:
        pruned: whether the run was pruned.
    """

    def __init__(self, monitor: str, mode: str, reporter: Reporter) -> None:
        self.monitor, self.mode, self.reporter = monitor, mode, reporter
        self.pruned = False

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Report, and stop if the trial is pruned.

        Raises:
            UserError: the metric is missing, or it or the loss is NaN.
        """
        if trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in metrics:
            raise UserError(f"no metric {self.monitor} to report; there are {', '.join(sorted(metrics))}")
        for name in (self.monitor, "val/loss"):
            if math.isnan(metrics.get(name, 0.0)):
                raise UserError(f"{name} is not a number after epoch {epoch}")
        if trainer.is_global_zero:
            last = epoch == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step
            last = last or trainer.should_stop  # early stopping, which comes before this
            self.pruned = self.reporter.report(epoch, metrics[self.monitor], last)
        self.pruned = trainer.strategy.broadcast(self.pruned)
        if self.pruned:
            trainer.should_stop = True
