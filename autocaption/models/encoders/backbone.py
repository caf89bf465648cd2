"""A pretrained network as an encoder: its normalisation, and what of it is trained.

Legend: B images, P places, D width; C channels, H height, W width.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.func import functional_call

from autocaption.checks import choice, number, whole
from autocaption.data.transforms import Fit, Interpolation
from autocaption.errors import UserError, first_line

Pooling = Literal["mean", "grid", "head"]
Trainable = Literal["none", "last_stage", "all"]
LARGEST_IMAGE = 4096  # pixels of a side; a larger one is mistyped
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
Matcher = Callable[[bool], Any]  # whether coarse to a matcher of parameters' names, as timm's models give it


def side(image_size: int | None, default: int) -> int:
    """`model.encoder.image_size`, or a network's own where it is None."""
    return default if image_size is None else whole("model.encoder.image_size", image_size, 32, LARGEST_IMAGE)


class Normalize(nn.Module):
    """uint8 RGB to the normalised floats that an encoder's weights were trained on.

    Part of the encoder, since the constants belong to its weights, and since bytes are a quarter of the
    size of floats when moved to a device.

    Args:
        mean: mean of each channel, of pictures scaled to 0..1.
        std: standard deviation of each channel, likewise.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # (x / 255 - mean) / std as one multiplication and one addition.
        scale, shift = 1 / (255 * torch.tensor(std)), -torch.tensor(mean) / torch.tensor(std)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images to normalised floats of the same shape."""
        return torch.addcmul(self.shift, images_BCHW.to(self.scale.dtype), self.scale)


class BackboneEncoder(nn.Module):
    """A pretrained network as an encoder; how its weights want pictures is said as in `Encoder`.

    Attributes:
        layers: the layer of each trained parameter, by name, from 0 next to the picture; empty where the
            network's library doesn't say.

    Args:
        net: the network.
        name: its name, for messages.
        memory: (net, normalised images_BCHW) to memory_BPD.
        pooling: what `memory` makes of the places.
        matcher: tells the layers of the net, or coarse its stages; None where they are unknown.
        trainable: `none`, the `last_stage` (of a plain vision transformer the last block), or `all`. What is
            frozen keeps its weights and, in training too, its BatchNorm statistics, and drops nothing out.
        freeze_norm: whether BatchNorms stay frozen where the rest is trained, as small batches want it.

    Raises:
        UserError: the net doesn't take pictures of that size, pictures can't be prepared like that, or the
            stages of the net are needed and unknown.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        memory: Callable[[Any, Tensor], Tensor],
        pooling: Pooling,
        matcher: Matcher | None,
        trainable: Trainable,
        freeze_norm: bool,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        fit: Fit,
        crop_share: float,
        interpolation: Interpolation,
    ) -> None:
        super().__init__()
        choice("model.encoder.trainable", trainable, get_args(Trainable))
        self.pooling = choice("model.encoder.pooling", pooling, get_args(Pooling))
        self.image_size, self.mean, self.std = image_size, tuple(mean), tuple(std)
        self.fit = choice("model.encoder.fit", fit, get_args(Fit))
        self.crop_share = number("model.encoder.crop_share", crop_share, above=0, at_most=1)
        self.interpolation = choice("model.encoder.interpolation", interpolation, get_args(Interpolation))
        self.normalize, self.net, self.memory = Normalize(self.mean, self.std), net, memory
        if trainable == "last_stage" and matcher is None:
            raise UserError(
                f"model.encoder.trainable=last_stage: the stages of {name} are unknown; take none or all"
            )
        self.requires_grad_(trainable == "all")
        if trainable == "last_stage":
            assert matcher is not None
            stages = _groups(net, matcher(True))
            for key, parameter in net.named_parameters():
                parameter.requires_grad_(stages[key] == max(stages.values()))
        if freeze_norm:
            for module in net.modules():
                if isinstance(module, BATCH_NORMS):
                    module.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # the fastest layout for convolutions, on CPU and GPU
        _, P, self.out_dim = self._freeze_unused(name)
        places = math.isqrt(P)
        self.grid_side = places if pooling == "grid" and places**2 == P else None
        layers = _groups(net, matcher(False)) if matcher else {}
        trained = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
        self.layers = {f"net.{key}": layer for key, layer in layers.items() if key in trained}
        self.train()  # Lightning trains modules in the mode that they are in

    def train(self, mode: bool = True) -> "BackboneEncoder":
        """Set training mode, for what is trained only."""
        super().train(mode)
        if mode:
            _evaluate_frozen([self.net])
        return self

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images to memory_BPD."""
        return self.memory(self.net, self.normalize(images_BCHW))

    def extra_repr(self) -> str:
        """What the modules don't show of the output."""
        return f"{self.memory}, image_size={self.image_size}"

    def _freeze_unused(self, name: str) -> torch.Size:
        """Freeze what the memory doesn't depend on, such as an unused head, which DDP would wait for.

        Shapes and gradients alone are computed, so this costs neither time nor memory.

        Returns:
            the shape of a picture's memory_BPD.
        """
        self.eval()
        parameters = {
            key: one.detach().to("meta").requires_grad_(one.requires_grad)
            for key, one in self.named_parameters()
        }
        buffers = {key: one.to("meta") for key, one in self.named_buffers()}
        pixels = self.image_size
        images_BCHW = torch.empty(1, 3, pixels, pixels, dtype=torch.uint8, device="meta")
        try:
            memory_BPD = functional_call(self, {**parameters, **buffers}, (images_BCHW,))
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = first_line(error)
            raise UserError(
                f"{name} doesn't encode pictures of {pixels} x {pixels} pixels: {reason}"
            ) from error
        trained = {key: one for key, one in parameters.items() if one.requires_grad}
        if trained:
            gradients = torch.autograd.grad(memory_BPD.sum(), list(trained.values()), allow_unused=True)
            for key, gradient in zip(trained, gradients, strict=True):
                if gradient is None:
                    self.get_parameter(key).requires_grad_(False)
        return memory_BPD.shape


def _groups(net: nn.Module, matcher: Any) -> dict[str, int]:
    """The group of each parameter by name; what no pattern matches, such as a head, joins the last one."""
    if isinstance(matcher, dict):
        matcher = {**matcher, "rest": [(".", (99999,))]}  # timm's number for the group before
    return group_parameters(net, matcher, reverse=True)


def _evaluate_frozen(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
        else:
            _evaluate_frozen(module.children())
