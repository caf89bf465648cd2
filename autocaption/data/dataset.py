"""A split as a map-style Dataset, over pictures or over stored features.

Legend: B images, N captions an image, T time, P places, D width; C channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from autocaption.data.batch import Batch
from autocaption.data.samplers import Key
from autocaption.data.sources import CaptionedImage, Source
from autocaption.data.token_table import TokenTable
from autocaption.data.transforms import Transform
from autocaption.files import release_pages
from autocaption.randomness import seed_of

RELEASE_AFTER = 2**24  # bytes read from a memory map; the kernel maps several times as many around them


class Inputs(Protocol):
    """Model inputs of a split; `field` is the Batch field they are stacked into."""

    field: str

    def __call__(self, epoch: int, index: int) -> Tensor:
        """The input of one image, as drawn for this epoch."""
        ...


class PictureInputs:
    """Pictures, read and transformed each time; augmentation is drawn from (seed, epoch, index)."""

    field = "images_BCHW"

    def __init__(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, seed: int
    ) -> None:
        self.source, self.images, self.transform, self.seed = source, images, transform, seed

    def __call__(self, epoch: int, index: int) -> Tensor:
        """uint8 picture_CHW."""
        seed = seed_of("augment", self.seed, epoch, index)
        return self.transform(self.source.read(self.images[index]), seed)


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

    def __call__(self, epoch: int, index: int) -> Tensor:
        """float32 features_PD."""
        views = self.stored.shape[1]
        view = seed_of("view", self.seed, epoch, index) % views if views > 1 else 0
        features_PD = self.stored[index, view]
        self._resident += features_PD.nbytes
        if self._resident > RELEASE_AFTER:
            release_pages(self.stored)
            self._resident = features_PD.nbytes
        return torch.from_numpy(features_PD.astype(np.float32))


class CaptionDataset(Dataset):
    """One split: inputs by key, and whole batches by `collate`.

    Args:
        images: the images of the split.
        inputs: pictures or stored features.
        tokens: the encoded captions of the split.
        references: normalised captions of each image for the metrics, or None in training.
    """

    def __init__(
        self,
        images: Sequence[CaptionedImage],
        inputs: Inputs,
        tokens: TokenTable,
        references: list[tuple[str, ...]] | None,
    ) -> None:
        self.images, self.inputs, self.tokens, self.references = images, inputs, tokens, references

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[int, Tensor]:
        epoch, index = key
        return index, self.inputs(epoch, index)

    def collate(self, items: list[tuple[int, Tensor]]) -> Batch:
        """Stack inputs and gather their captions; an empty batch has no inputs."""
        indices = [index for index, _ in items]
        stacked: dict = {self.inputs.field: torch.stack([tensor for _, tensor in items])} if items else {}
        return Batch(
            ids=tuple(self.images[i].id for i in indices),
            references=tuple(self.references[i] for i in indices) if self.references else (),
            tokens_BNT=self.tokens.gather(indices),
            **stacked,
        )
