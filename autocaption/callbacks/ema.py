"""Averaged weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class ExponentialMovingAverage(pl.Callback):
    """A moving average of the weights (Polyak & Juditsky 1992), with which the model is scored and saved.

    After each optimizer step, average += (1 - d) (weights - average). So that the start is soon
    forgotten, d rises to `decay` as (1 + n) / (10 + n) with the number n of steps (as TensorFlow's
    does). BatchNorm statistics are averaged with the weights that they belong to.

    Validation, checkpoints and whatever follows training get the average in place of the weights. The
    weights themselves are kept in the callback's part of a checkpoint, from which training resumes exactly.

    Lightning's WeightAveraging (2.6) copies the whole module, a frozen encoder included, and leaves the
    average in place of the weights where a validation raises an exception.

    Args:
        decay: of the average, an optimizer step.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._average: dict[str, Tensor] = {}
        self._exchanged = False  # whether the module holds the average, and `_average` the weights
        self._resumed: dict[str, Tensor] = {}  # the weights of a checkpoint, until training starts

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the weights as they are; after a resume they are the average."""
        self._average = {name: live.clone() for name, live in averaged(pl_module).items()}
        self._exchanged = False
        for name, live in averaged(pl_module).items():
            if name in self._resumed:
                live.copy_(self._resumed[name])
        self._resumed = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow an optimizer step, which takes several batches where gradients are accumulated."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        live = averaged(pl_module)
        torch._foreach_lerp_([self._average[name] for name in live], list(live.values()), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score the average."""
        self._exchange(pl_module, True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Back to the weights."""
        self._exchange(pl_module, False)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Back to the weights, wherever a validation was interrupted."""
        self._exchange(pl_module, False)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What follows training gets the average."""
        self._exchange(pl_module, True)
        self._average, self._exchanged = {}, False

    def state_dict(self) -> dict[str, Any]:
        """The number of steps; the weights are added where the module is at hand."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the number of steps."""
        self.steps = state_dict["steps"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the model, and the weights beside it, also amid a validation."""
        if self._average:
            held = {name: checkpoint["state_dict"][name] for name in self._average}
            average, weights = (held, self._average) if self._exchanged else (self._average, held)
            checkpoint["ema_weights"] = weights
            checkpoint["state_dict"] |= average

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the weights until training starts."""
        self._resumed = checkpoint.get("ema_weights", {})

    def _exchange(self, module: pl.LightningModule, average: bool) -> None:
        """Bring the average, or the weights, into the module, unless they are there."""
        if not self._average or self._exchanged == average:
            return
        for name, live in averaged(module).items():
            kept = live.clone()
            live.copy_(self._average[name])
            self._average[name].copy_(kept)
        self._exchanged = average


def averaged(module: pl.LightningModule) -> dict[str, Tensor]:
    """The floating-point tensors of a module's state that training changes, by name, without gradients."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {
        name: tensor.detach()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and name not in frozen
    }
