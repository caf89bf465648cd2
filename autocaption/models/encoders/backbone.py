"""A pretrained classifier as an encoder: its normalisation, its weights, and what of it is trained.

Legend: B images, P places, D width; C channels, H height, W width.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from autocaption.checks import choice, whole
from autocaption.data.transforms import Fit, Interpolation
from autocaption.errors import UserError
from autocaption.models.weights import load_weights, unwrapped

Pooling = Literal["mean", "grid"]
Trainable = Literal["none", "last_stage", "all"]
LARGEST_IMAGE = 4096  # pixels of a side; a larger one is mistyped


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
    """The backbone of a pretrained classifier as an encoder.

    Args:
        stages: the backbone's stages in order; their composition gives (B, D, H, W).
        out_dim: D of the last feature map.
        image_size: side of the pictures in pixels.
        mean: channel means of the pictures that the weights were trained on; likewise `std`.
        pooling: `mean` over the grid (P = 1), or the `grid` (P = H x W).
        trainable: `none`, the `last_stage`, or `all`. Frozen stages keep their weights and, in training
            too, their BatchNorm statistics.
        fit: how pictures are made square; likewise `crop_share` and `interpolation` (see `Encoder`).
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        out_dim: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        pooling: Pooling,
        trainable: Trainable,
        fit: Fit = "crop",
        crop_share: float = 1.0,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        self.fit, self.crop_share, self.interpolation = fit, crop_share, interpolation
        self.out_dim, self.image_size = (
            out_dim,
            whole("model.encoder.image_size", image_size, 32, LARGEST_IMAGE),
        )
        self.pooling = choice("model.encoder.pooling", pooling, get_args(Pooling))
        choice("model.encoder.trainable", trainable, get_args(Trainable))
        self.normalize = Normalize(mean, std)
        self.stages = nn.ModuleList(stages)
        self.frozen = {"none": len(stages), "last_stage": last_stage(stages), "all": 0}[trainable]
        for stage in self.stages[: self.frozen]:
            stage.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # the fastest layout for convolutions, on CPU and GPU
        self.train()  # Lightning trains modules in the mode that they are in

    def train(self, mode: bool = True) -> "BackboneEncoder":
        """Set training mode, for the trainable stages only."""
        super().train(mode)
        for stage in self.stages[: self.frozen]:
            stage.eval()
        return self

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images to memory_BPD."""
        grid_BDHW = self.normalize(images_BCHW)
        with torch.no_grad():  # nothing below the first trainable stage needs a gradient
            for stage in self.stages[: self.frozen]:
                grid_BDHW = stage(grid_BDHW)
        for stage in self.stages[self.frozen :]:
            grid_BDHW = stage(grid_BDHW)
        if self.pooling == "mean":
            return grid_BDHW.mean((2, 3)).unsqueeze(1)
        return grid_BDHW.flatten(2).transpose(1, 2)


def last_stage(stages: Sequence[nn.Module]) -> int:
    """Index of the last stage: the last module that is a sequence of blocks."""
    return max(i for i, stage in enumerate(stages) if isinstance(stage, nn.Sequential))


def pretrained(
    make: Callable[[bool], nn.Module], name: str, wanted: bool, weights: str | None, head: str
) -> nn.Module:
    """A backbone with the weights that the configuration asks for.

    Args:
        make: makes the backbone; its argument says whether to download the published weights.
        name: the backbone's name, for messages.
        wanted: `model.encoder.pretrained`.
        weights: `model.encoder.weights`, a local state dict instead of the download.
        head: prefix of the classifier's keys, which are ignored.

    Raises:
        UserError: the weights cannot be loaded; random weights never take their place.
    """
    if not wanted:
        return make(False)
    if weights is None:
        try:
            return make(True)
        except Exception as error:  # each hub has its own errors for "no network"
            raise UserError(
                f"the pretrained weights of {name} could not be downloaded ({type(error).__name__}); "
                "give a local state dict with model.encoder.weights=PATH"
            ) from error
    backbone = make(False)
    path = Path(weights).expanduser()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key: value for key, value in unwrapped(state).items() if not key.startswith(head)}
        load_weights(backbone, state)
    except FileNotFoundError:
        raise UserError(f"file not found: model.encoder.weights={path}") from None
    except Exception as error:  # torch's reader fails in a dozen ways on a file that is no pickle
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model.encoder.weights={path} does not hold weights of {name}: {reason}") from None
    return backbone
