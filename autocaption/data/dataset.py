from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from autocaption.data.batch import Batch
from autocaption.data.inputs import Inputs
from autocaption.data.samplers import Key
from autocaption.data.source import CaptionedImage
from autocaption.data.token_table import TokenTable


class CaptionDataset(Dataset):
    """One split: inputs by key, and whole batches by `collate`.

    Args:
        images: the split.
        inputs: of the encoder, or its stored outputs.
        tokens: the split's captions, encoded.
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
        epoch, position = key
        return position, self.inputs(epoch, position)

    def collate(self, items: list[tuple[int, Tensor]]) -> Batch:
        """Stack inputs and gather their captions."""
        positions = [position for position, _ in items]
        stacked: dict = {self.inputs.field: torch.stack([tensor for _, tensor in items])}
        return Batch(
            ids=tuple(self.images[p].id for p in positions),
            references=tuple(self.references[p] for p in positions) if self.references else (),
            tokens_BNT=self.tokens.gather(positions),
            **stacked,
        )
