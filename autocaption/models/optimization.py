"""How a model's weights are trained: the optimizer, its learning rates and its schedule."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from autocaption.checks import number
from autocaption.errors import UserError
from autocaption.models.optim import apply_configured, optimizer_of


class Optimization:
    """Makes optimizer and schedule, and keeps a restored one as it is configured now.

    Args:
        optimizer: parameter groups to optimizer.
        learning_rates: rates of parts of the model, as shares of the optimizer's (optim.py).
        layer_decay: the rate of each layer of the encoder as a share of that of the next.
        schedule: (optimizer, total_steps) to a learning-rate schedule that is stepped every step.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        learning_rates: Mapping[str, float],
        layer_decay: float,
        schedule: Callable[..., Any],
    ) -> None:
        self.optimizer, self.learning_rates = optimizer, learning_rates
        self.layer_decay, self.schedule = layer_decay, schedule
        given = getattr(optimizer, "keywords", {})
        for name in ("lr", "weight_decay"):
            if given.get(name) is not None:
                number(f"optimizer.{name}", given[name], at_least=0)
        self._configured: list[dict[str, Any]] = []  # of the parameter groups of the optimizer in use

    @property
    def lr(self) -> float | None:
        """The peak learning rate."""
        return getattr(self.optimizer, "keywords", {}).get("lr")

    @lr.setter
    def lr(self, rate: float) -> None:
        if self.lr:
            for settings in self._configured:
                settings["initial_lr"] *= rate / self.lr
        self.optimizer = functools.partial(self.optimizer, lr=rate)

    def make(self, module: nn.Module, layers: Mapping[str, int], total_steps: float) -> tuple[Optimizer, Any]:
        """An optimizer over the trainable parameters, and its schedule.

        Args:
            module: the model.
            layers: the layer of each parameter that has one, by name.
            total_steps: of the whole training; infinite where neither epochs nor steps limit it.

        Raises:
            UserError: one of them refuses its configuration.
        """
        try:
            optimizer = optimizer_of(module, self.optimizer, self.learning_rates, self.layer_decay, layers)
            return optimizer, self.schedule(optimizer, total_steps=total_steps)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"optimizer or schedule refuses its values: {error}; check both with `--cfg job`"
            ) from error

    def use(self, optimizer: Optimizer) -> None:
        """Remember the settings of the optimizer that training begins with."""
        self._configured = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]

    def restored(self, optimizer: Optimizer, schedule: Any) -> None:
        """Let optimizer and schedule of a checkpoint follow the configuration."""
        apply_configured(optimizer, schedule, self._configured)


def clip_gradients(optimizer: Optimizer, limit: float | None, by_value: bool, scaler: Any) -> None:
    """Clip the gradients of an optimizer's parameters; None, 0 or less clips nothing.

    Args:
        optimizer: holds the parameters.
        limit: the largest norm of them all, or value of each.
        by_value: whether it is one of values.
        scaler: of the gradients, in fp16. A fused optimizer unscales them itself, after the clipping, unless
            the scaler has done so before.
    """
    if not limit or limit <= 0:
        return
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)
    clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
    clip([p for group in optimizer.param_groups for p in group["params"]], limit)
