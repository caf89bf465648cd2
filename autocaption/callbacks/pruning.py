import math
from typing import Any

import pytorch_lightning as pl

from autocaption.errors import UserError
from autocaption.sweep.verdict import Judge


class Pruning(pl.Callback):
    """Reports a figure after every validation and ends the run, cleanly, where it has no prospects.

    Rank 0 reports and decides, all ranks stop.

    Args:
        monitor: the figure, such as `val/bleu4`.
        mode: `max` or `min`: what is good.
        judge: decides.

    Attributes:
        pruned: whether the run was ended early.
    """

    def __init__(self, monitor: str, mode: str, judge: Judge) -> None:
        self.monitor, self.mode, self.judge = monitor, mode, judge
        self.pruned = False

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Report, and stop where it is said so."""
        if trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in figures:
            raise UserError(f"no figure {self.monitor} to report; there are {', '.join(sorted(figures))}")
        for name in (self.monitor, "val/loss"):
            if math.isnan(figures.get(name, 0.0)):
                raise UserError(f"{name} is not a number after epoch {epoch}")
        if trainer.is_global_zero:
            self.pruned = self.judge.report(epoch, figures[self.monitor], epoch == trainer.max_epochs)
        self.pruned = trainer.strategy.broadcast(self.pruned)
        if self.pruned:
            trainer.should_stop = True
