from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from autocaption.data.batch import Batch
from autocaption.data.randomness import seed_of
from autocaption.data.samplers import Key
from autocaption.data.source import CaptionedImage, Source
from autocaption.data.token_table import TokenTable
from autocaption.data.transforms import Transform


class CaptionDataset(Dataset):
    """One split: pictures by key, and whole batches by `collate`.

    Args:
        source: reads the pictures.
        images: the split.
        tokens: the split's captions, encoded.
        references: normalised captions of each image for the metrics, or None in training.
        transform: picture and seed to uint8 (3, H, W).
        seed: of the run; with epoch and position, it gives the transform's.
    """

    def __init__(
        self,
        source: Source,
        images: Sequence[CaptionedImage],
        tokens: TokenTable,
        references: list[tuple[str, ...]] | None,
        transform: Transform,
        seed: int,
    ) -> None:
        self.source, self.images, self.tokens = source, images, tokens
        self.references, self.transform, self.seed = references, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[int, Tensor]:
        epoch, position = key
        picture = self.source.read(self.images[position])
        return position, self.transform(picture, seed_of("augment", self.seed, epoch, position))

    def collate(self, items: list[tuple[int, Tensor]]) -> Batch:
        """Stack pictures and gather their captions."""
        positions = [position for position, _ in items]
        return Batch(
            ids=tuple(self.images[p].id for p in positions),
            references=tuple(self.references[p] for p in positions) if self.references else (),
            tokens_BNT=self.tokens.gather(positions),
            images_BCHW=torch.stack([picture for _, picture in items]),
        )
