"""A small convolutional encoder.

Legend: B images, P places, D width; C channels, H height, W width.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from autocaption.checks import choice, whole
from autocaption.data.transforms import Fit, Interpolation
from autocaption.errors import UserError
from autocaption.models.encoders.backbone import LARGEST_IMAGE, Normalize


class ConvNet(nn.Module):
    """A small convolutional encoder, trained from scratch together with the decoder.

    Four stages halve the picture to a grid of side image_size / 16. As a vector, the whole grid is
    projected at once, which keeps spatial information.

    Args:
        image_size: side of the pictures in pixels, a multiple of 16.
        width: channels of the first stage; each stage doubles them.
        out_dim: D of the vector, or of each place of the grid.
        pooling: `vector` (P = 1) or `grid` (P = (image_size / 16) ** 2).
    """

    mean = std = (0.5, 0.5, 0.5)
    fit: Fit = "crop"
    crop_share = 1.0
    interpolation: Interpolation = "bilinear"

    def __init__(self, image_size: int, width: int, out_dim: int, pooling: str) -> None:
        super().__init__()
        for name, size in (("width", width), ("out_dim", out_dim)):
            whole(f"model.encoder.{name}", size, 1)
        if whole("model.encoder.image_size", image_size, 16, LARGEST_IMAGE) % 16:
            raise UserError(f"model.encoder.image_size={image_size} is not a multiple of 16")
        choice("model.encoder.pooling", pooling, ("vector", "grid"))
        side = image_size // 16
        self.image_size, self.out_dim = image_size, out_dim
        self.grid_side = side if pooling == "grid" else None
        channels = [3, *(width * 2**stage for stage in range(4))]
        self.normalize = Normalize(self.mean, self.std)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after in pairwise(channels)
            )
        )
        kernel = side if pooling == "vector" else 1
        self.project = nn.Conv2d(channels[-1], out_dim, kernel)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """uint8 images to memory_BPD."""
        grid_BDHW = self.project(self.stages(self.normalize(images_BCHW)))
        return F.relu(grid_BDHW).flatten(2).transpose(1, 2)
