"""A batch.

Legend: B images, N captions an image, T time, P places, D width; C channels, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from autocaption.data.packing import Layout
from autocaption.data.sources import ImageId
from autocaption.data.tensors import mapped


@dataclass(frozen=True)
class Batch:
    """Images with all their captions, image-major: an image is encoded once for its N captions.

    Attributes:
        ids: ids of the B images.
        references: the captions of each image, as written; empty in training.
        tokens_BNT: int64, <bos> words <eos>, padded with <pad>; all <pad> where an image has fewer captions.
        layout: where the input tokens (all but <eos>) lie in tokens_BNT[..., :-1], and so where their
            targets lie in tokens_BNT[..., 1:].
        images_BCHW: uint8 RGB, normalised by the encoder; None where there are features.
        features_BPD: outputs of the frozen encoder; None where there are images.
    """

    ids: tuple[ImageId, ...]
    references: tuple[tuple[str, ...], ...]
    tokens_BNT: Tensor
    layout: Layout
    images_BCHW: Tensor | None = None
    features_BPD: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Move the batch; copies from pinned memory don't block."""
        return mapped(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy the batch to page-locked memory; called by the DataLoader."""
        return mapped(self, lambda tensor: tensor.pin_memory())
