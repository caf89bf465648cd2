"""Legend: B images, P places, D width; C channels, H height, W width."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from autocaption.models.encoders.normalize import Normalize

Pooling = Literal["mean", "grid"]
Trainable = Literal["none", "last_stage", "all"]


class BackboneEncoder(nn.Module):
    """A pretrained classifier without its classifier, as an encoder.

    Args:
        stages: the backbone in order, input to last grid; their composition gives (B, D, H, W).
        out_dim: D of the last grid.
        image_size: pixels of a side.
        mean: of the pictures the weights were trained on; likewise `std`.
        pooling: `mean` over the grid (P = 1), or the `grid` (P = H x W).
        trainable: `none`, the `last_stage`, or `all`. What is frozen keeps its weights and, in
            training too, its BatchNorm statistics.
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
    ) -> None:
        super().__init__()
        self.out_dim, self.image_size, self.pooling = out_dim, image_size, pooling
        self.normalize = Normalize(mean, std)
        self.stages = nn.ModuleList(stages)
        self.frozen = {"none": len(stages), "last_stage": last_stage(stages), "all": 0}[trainable]
        for stage in self.stages[: self.frozen]:
            stage.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in, on CPU and GPU
        self.train()  # Lightning trains modules in the mode that it finds them in

    def train(self, mode: bool = True) -> "BackboneEncoder":
        """Training mode for what is trainable only."""
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
    """Where the last stage begins: the last module that is one of several blocks, and what follows."""
    return max(i for i, stage in enumerate(stages) if isinstance(stage, nn.Sequential))
