"""Legend: B images; C channels, H height, W width."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """uint8 RGB to the floats that an encoder's weights were trained on.

    It is part of the encoder, since the constants belong to its weights, and since bytes are a
    quarter of the floats to move to a device.

    Args:
        mean: of each channel of pictures scaled to 0..1.
        std: likewise.
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
