from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class ExponentialMovingAverage(pl.Callback):
    """A moving average of the weights (Polyak & Juditsky 1992), which the model is scored and saved with.

    After each optimizer step, average += (1 - d) (weights - average). So that the start is soon
    forgotten, d climbs to `decay` as (1 + n) / (10 + n) with the number n of steps (as TensorFlow's
    does). BatchNorm statistics are averaged with the weights that they belong to.

    Validation and checkpoints see the average in the place of the weights, and so does whatever
    comes after training. The weights themselves travel in the callback's part of a checkpoint, from
    which a resumed run goes on as if it had not been interrupted.

    Args:
        decay: of the average, an optimizer step.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._average: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}  # of a checkpoint, until training starts

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are; of a resumed run, they are the average."""
        self._average = {name: live.clone() for name, live in averaged(pl_module).items()}
        for name, live in averaged(pl_module).items():
            if name in self._weights:
                live.copy_(self._weights[name])
        self._weights = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow an optimizer step; gradient accumulation takes several batches for one."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        live = averaged(pl_module)
        torch._foreach_lerp_([self._average[name] for name in live], list(live.values()), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score the average."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Back to the weights."""
        self._swap(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Nothing is saved with the two exchanged."""
        if trainer.validating:
            self._swap(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What comes after training sees the average."""
        self._swap(pl_module)
        self._average = {}

    def state_dict(self) -> dict[str, Any]:
        """The number of steps; the weights are added where the model is at hand."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the number of steps."""
        self.steps = state_dict["steps"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the model, and the weights beside it."""
        if self._average:
            checkpoint["ema_weights"] = {name: checkpoint["state_dict"][name] for name in self._average}
            checkpoint["state_dict"] |= self._average

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the weights until training starts."""
        self._weights = checkpoint.get("ema_weights", {})

    def _swap(self, module: pl.LightningModule) -> None:
        for name, live in averaged(module).items() if self._average else ():
            kept = live.clone()
            live.copy_(self._average[name])
            self._average[name].copy_(kept)


def averaged(module: pl.LightningModule) -> dict[str, Tensor]:
    """The floating-point tensors of a module's state that training changes, by name, without gradients."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {
        name: tensor.detach()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and name not in frozen
    }
