"""A split as a map-style Dataset, over pictures or over stored features.

Legend: B images, N captions an image, T time, P places, D width; C channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.samplers import Key
from autocaption.data.sources import CaptionedImage, ImageId, Source
from autocaption.data.token_table import TokenTable
from autocaption.data.transforms import Transform
from autocaption.files import release_pages
from autocaption.randomness import seed_of

RELEASE_AFTER = 2**24  # bytes read from a memory map; the kernel maps several times as many around them


class Inputs(Protocol):
    """Model inputs of a split; `field` is the Batch field that holds them."""

    field: str

    def __call__(self, keys: Sequence[Key]) -> Tensor:
        """The inputs of a batch: of each image, as drawn for its epoch."""
        ...


class PictureInputs:
    """Pictures, read and transformed each time; augmentation is drawn from (seed, epoch, index)."""

    field = "images_BCHW"

    def __init__(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, seed: int
    ) -> None:
        self.source, self.images, self.transform, self.seed = source, images, transform, seed

    def __call__(self, keys: Sequence[Key]) -> Tensor:
        """uint8 images_BCHW."""
        return torch.stack([self._picture(*key) for key in keys])

    def _picture(self, epoch: int, index: int) -> Tensor:
        seed = seed_of("augment", self.seed, epoch, index)
        return self.transform(self.source.read(self.images[index], self.transform.least), seed)


class FeatureInputs:
    """Stored outputs of a frozen encoder; one of several views is drawn from (seed, epoch, index).

    Args:
        stored: (images, views, P, D), memory-mapped.
        seed: the run's seed.
    """

    field = "features_BPD"

    def __init__(self, stored: np.memmap, seed: int) -> None:
        self.stored, self.seed = stored, seed
        self._resident = 0  # bytes read since pages were last released

    def __call__(self, keys: Sequence[Key]) -> Tensor:
        """features_BPD as they are stored; the model casts them, on its device."""
        features_BPD = np.asarray(
            self.stored[[index for _, index in keys], [self._view(*key) for key in keys]]
        )
        self._resident += features_BPD.nbytes
        if self._resident > RELEASE_AFTER:
            release_pages(self.stored)
            self._resident = 0
        return torch.from_numpy(features_BPD)

    def _view(self, epoch: int, index: int) -> int:
        views = self.stored.shape[1]
        return seed_of("view", self.seed, epoch, index) % views if views > 1 else 0


class CaptionDataset(Dataset):
    """One split, a batch at a time.

    Args:
        ids: of the images.
        inputs: their pictures or stored features.
        tokens: their encoded captions.
        referred: the images, whose captions metrics need as they are written; None in training.
    """

    def __init__(
        self,
        ids: Sequence[ImageId],
        inputs: Inputs,
        tokens: TokenTable,
        referred: Sequence[CaptionedImage] | None,
    ) -> None:
        self.ids, self.inputs, self.tokens, self.referred = ids, inputs, tokens, referred

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Key) -> Batch:
        """A batch of one image; a DataLoader asks for whole ones."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """The batch of these keys, in their order; an empty batch has no inputs."""
        indices = [index for _, index in keys]
        inputs: dict = {self.inputs.field: self.inputs(keys)} if keys else {}
        tokens_BNT, lengths_BN = self.tokens.gather(indices)
        steps = max(tokens_BNT.shape[2] - 1, 0)
        return Batch(
            ids=tuple(self.ids[i] for i in indices),
            references=tuple(self.referred[i].captions for i in indices) if self.referred else (),
            tokens_BNT=tokens_BNT,
            layout=Layout.of_lengths(np.maximum(lengths_BN - 1, 0), steps),  # <eos> is no input
            **inputs,
        )


def collate(batch: Any) -> Batch:
    """The DataLoader's collate_fn: the dataset has made a batch already."""
    return batch
