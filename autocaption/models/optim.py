"""Parameter groups of the optimizer, and learning-rate schedules."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from autocaption.checks import number
from autocaption.errors import UserError

log = logging.getLogger(__name__)

ENDLESS_WARMUP = 500  # steps


def optimizer_of(
    module: nn.Module,
    make: Callable[[list[dict]], Optimizer],
    learning_rates: Mapping[str, float],
    layer_decay: float = 1.0,
    layers: Mapping[str, int] | None = None,
) -> Optimizer:
    """An optimizer over the trainable parameters, in groups with their own learning rate and weight decay.

    Weight decay is for matrices (embeddings and convolutions among them): biases, the scales of
    norms and other vectors keep their size (Loshchilov & Hutter 2019; Goyal et al. 2017, section 5.3).

    Args:
        module: the module to train.
        make: parameter groups to optimizer.
        learning_rates: rates of parts of the module, by prefix of the parameters' names (`encoder`,
            `encoder.net.layer4`), as shares of the optimizer's rate; the longest prefix counts.
        layer_decay: the rate of a layer as a share of that of the next, whose last keeps its part's rate
            (Howard & Ruder 2018, section 3.2).
        layers: the layer of each trained parameter that has one, by name.

    Raises:
        UserError: a prefix names no part of the module, or there are no layers to decay over.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    every = [name for name, _ in module.named_parameters()]
    for part, share in learning_rates.items():
        number(f"learning_rates.{part}", share, at_least=0)
        if not any(_within(name, part) for name in every):
            raise UserError(f"learning_rates.{part} names no part of the model; take encoder or decoder")
    depths = _depths(layer_decay, layers or {})
    groups: dict[_Group, list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        part = max((part for part in learning_rates if _within(name, part)), key=len, default="")
        group = _Group(part, depths.get(name, 0), name in depths, parameter.ndim >= 2)
        groups.setdefault(group, []).append(parameter)
    order = sorted(groups, key=lambda group: -group.depth)  # from the first layer; a stable sort
    optimizer = make([{"params": groups[group], "name": group.name} for group in order])
    for group, settings in zip(order, optimizer.param_groups, strict=True):
        settings["lr"] *= learning_rates.get(group.part, 1.0) * layer_decay**group.depth
        if not group.decays and "weight_decay" in settings:
            settings["weight_decay"] = 0.0
    return optimizer


class _Group(NamedTuple):
    """What parameters of one rate and weight decay have in common."""

    part: str  # of learning_rates
    depth: int  # layers above it
    layered: bool
    decays: bool

    @property
    def name(self) -> str:
        """PART/KIND, or PART/DEPTH/KIND within layers."""
        part = self.part or ("encoder" if self.layered else "model")
        return "/".join([part, *([str(self.depth)] if self.layered else []), self.kind])

    @property
    def kind(self) -> str:
        return "matrices" if self.decays else "vectors"


def _depths(layer_decay: float, layers: Mapping[str, int]) -> dict[str, int]:
    """The layers above that of each parameter; empty where all have the same rate."""
    if number("layer_decay", layer_decay, above=0, at_most=1) == 1:
        return {}
    if not layers:
        raise UserError(
            f"layer_decay={layer_decay}: no layers of the encoder are trained; take model/encoder=timm or "
            "torchvision with model.encoder.trainable=all, or layer_decay=1"
        )
    last = max(layers.values())
    return {name: last - layer for name, layer in layers.items()}


def apply_configured(optimizer: Optimizer, schedule: Any, configured: list[dict[str, Any]]) -> None:
    """Give a restored optimizer the settings that are configured now, at the step that it was restored to.

    Without a change nothing changes, to the last bit. A change of the current rate is logged.

    Args:
        optimizer: restored from a checkpoint.
        schedule: its schedule, restored as well; only a LambdaLR can follow.
        configured: the settings of its parameter groups as they were built from the configuration.
    """
    if not isinstance(schedule, LambdaLR):
        return
    step, before = schedule.last_epoch, [group["lr"] for group in optimizer.param_groups]
    for group, settings in zip(optimizer.param_groups, configured, strict=True):
        group.update({key: value for key, value in settings.items() if key != "lr"})
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    factors = [factor(step) for factor in schedule.lr_lambdas]
    for group, rate, factor, was in zip(
        optimizer.param_groups, schedule.base_lrs, factors, before, strict=True
    ):
        group["lr"] = rate * factor
        if not math.isclose(group["lr"], was):
            log.info(
                "learning rate of %s at step %d: %.3g became %.3g", group["name"], step, was, group["lr"]
            )


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def warmup_cosine(optimizer: Optimizer, total_steps: float, warmup: float, final: float) -> LambdaLR:
    """Linear warm-up, then half a cosine (Loshchilov & Hutter 2017), per step.

    A training that only trainer.max_time ends has infinitely many steps: its rate rises for ENDLESS_WARMUP
    steps, if there is a warm-up, and stays.

    Args:
        optimizer: holds the peak learning rates.
        total_steps: steps of the whole run; may be infinite.
        warmup: the share of the steps in which the rate rises.
        final: the last rate, as a share of the peak.
    """
    number("schedule.warmup", warmup, at_least=0, at_most=1)
    number("schedule.final", final, at_least=0, at_most=1)
    if math.isinf(total_steps):
        endless_steps = ENDLESS_WARMUP if warmup else 1
        log.info("no last step is known, so the learning rate stays at its peak after step %d", endless_steps)
        return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / endless_steps))
    warmup_steps = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
