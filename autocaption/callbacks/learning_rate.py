"""Learning rates under names that a user recognises."""

from typing import Any

import pytorch_lightning as pl
import torch


class LearningRate(pl.Callback):
    """Logs the rate of each step as `lr`, and that of a part with a rate of its own as `lr/encoder`.

    Of a part whose layers have rates of their own (`layer_decay`), that is the last layer's: the others are
    fixed shares of it.

    Lightning's LearningRateMonitor names a rate after the optimizer's class and parameter group, of which a
    part has two, for matrices and vectors.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log what the optimizer's groups have now."""
        if trainer.loggers:
            rates = {lr_name(group["name"]): group["lr"] for group in trainer.optimizers[0].param_groups}
            # As doubles, since a float would be logged as 0.0010000000474974513.
            pl_module.log_dict({name: torch.tensor(rate, dtype=torch.double) for name, rate in rates.items()})


def lr_name(group: str) -> str:
    """The name of a parameter group's rate (models/optim.py names the groups, the last layer's last)."""
    part = group.partition("/")[0]
    return "lr" if part == "model" else f"lr/{part}"
