"""Averaged weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from autocaption.checks import number
from autocaption.models.sharding import copy_into, gathered, own_parts


class ExponentialMovingAverage(pl.Callback):
    """Validates and saves an exponential moving average of the weights (Polyak & Juditsky 1992).

    After optimizer step n, average += (1 - d) (weights - average) with d = min(decay, (1 + n) / (10 + n)),
    TensorFlow's warm-up, so that the initial weights are soon forgotten. BatchNorm statistics are averaged
    with the weights; frozen parameters are not copied.

    The module holds the average during validation and after training, and the live weights otherwise,
    also after an exception. A checkpoint holds the average as the model and the live weights under
    `ema_weights`, from which training resumes exactly.

    Lightning's WeightAveraging (2.6.6) copies the whole module, frozen encoder included, starts from the
    weights after the first step, and leaves the average in the module if a validation raises.

    Of sharded weights (trainer=fsdp) each rank averages its own part.

    Args:
        decay: the upper limit of d.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = number("callbacks.ema.decay", decay, at_least=0, at_most=1), 0
        self._average: dict[str, Tensor] = {}
        # The live weights while the module holds the average, else empty. They are a copy, not swapped
        # with the average, so that a copy interrupted halfway can be repeated.
        self._live: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the average from the module; a resumed module holds the average already."""
        self._start(pl_module)

    def _start(self, pl_module: pl.LightningModule) -> None:
        self._average = {name: value.clone() for name, value in averaged(pl_module).items()}
        self._show_live(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step, not after every accumulated batch."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        live = averaged(pl_module)
        average = own_parts(self._average[name] for name in live)
        torch._foreach_lerp_(average, own_parts(live.values()), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average during training; `trainer.validate` takes the module as it is."""
        if trainer.state.fn is TrainerFn.FITTING:
            self._show_average(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the live weights."""
        self._show_live(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the live weights, wherever training was interrupted."""
        if self._average:  # else a resumed training has not started: the module holds the only average
            self._show_live(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the module."""
        self._show_average(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Free the copies once training has ended without an exception."""
        if stage == TrainerFn.FITTING:
            self._average, self._live = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The number of steps; `on_save_checkpoint` adds the weights, since only it gets the module's."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of steps."""
        self.steps = state_dict["steps"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the model and the live weights beside it, also during a validation."""
        if live := self._live or (averaged(pl_module) if self._average else {}):
            checkpoint["ema_weights"] = gathered(live)
        checkpoint["state_dict"] |= gathered(self._average)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the live weights of a resumed training until it starts."""
        if trainer.state.fn is TrainerFn.FITTING:
            self._live = checkpoint.get("ema_weights", {})
            if self._average:  # weights that are sharded are restored only after on_fit_start
                self._start(pl_module)

    def _show_average(self, module: pl.LightningModule) -> None:
        if self._average and not self._live:
            self._live = {name: value.clone() for name, value in averaged(module).items()}
            _copy(self._average, module)

    def _show_live(self, module: pl.LightningModule) -> None:
        if self._live:
            _copy(self._live, module)
            self._live = {}


def averaged(module: pl.LightningModule) -> dict[str, Tensor]:
    """The floating-point tensors of a module's state that training changes, by name, without gradients."""
    every = module.named_parameters(remove_duplicate=False)  # state_dict has a tied one by all its names
    frozen = {name for name, parameter in every if not parameter.requires_grad}
    return {
        name: tensor.detach()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and name not in frozen
    }


def _copy(values: dict[str, Tensor], module: pl.LightningModule) -> None:
    """Copy values into the module."""
    for name, tensor in averaged(module).items():
        if name in values:
            copy_into(tensor, values[name])
