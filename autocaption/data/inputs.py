"""What the encoder, or the decoder in its place, is given of an image.

Legend: C channels, H height, W width; P places, D width of the encoder's memory.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autocaption.data.mapped import give_back
from autocaption.data.randomness import seed_of
from autocaption.data.source import CaptionedImage, Source
from autocaption.data.transforms import Transform

HELD_AT_MOST = 2**24  # bytes read of a memory map; the kernel maps several times as many around them


class Inputs(Protocol):
    """Inputs of a split; `field` is the Batch's field that they are stacked into."""

    field: str

    def __call__(self, epoch: int, position: int) -> Tensor:
        """The input of one image, as drawn for this epoch."""
        ...


class Pictures:
    """Pictures, read and transformed each time; augmentation is drawn from (seed, epoch, position)."""

    field = "images_BCHW"

    def __init__(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, seed: int
    ) -> None:
        self.source, self.images, self.transform, self.seed = source, images, transform, seed

    def __call__(self, epoch: int, position: int) -> Tensor:
        """uint8 picture_CHW."""
        seed = seed_of("augment", self.seed, epoch, position)
        return self.transform(self.source.read(self.images[position]), seed)


class Features:
    """A frozen encoder's outputs from disk; of several views, one is drawn from (seed, epoch, position).

    Args:
        stored: (images, views, P, D), memory-mapped.
        seed: of the run.
    """

    field = "features_BPD"

    def __init__(self, stored: np.memmap, seed: int) -> None:
        self.stored, self.seed = stored, seed
        self._held = 0  # bytes read since the pages were last given back

    def __call__(self, epoch: int, position: int) -> Tensor:
        """float32 features_PD."""
        views = self.stored.shape[1]
        view = seed_of("view", self.seed, epoch, position) % views if views > 1 else 0
        features_PD = self.stored[position, view]
        self._held += features_PD.nbytes
        if self._held > HELD_AT_MOST:
            give_back(self.stored)
            self._held = features_PD.nbytes
        return torch.from_numpy(features_PD.astype(np.float32))
