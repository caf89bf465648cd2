"""The real tokens of a batch without padding: image by image for attention, time by time for recurrences.

Positions are worked out on the host, from the captions' lengths, and travel with the batch: a training step
that had to ask the device where the padding is would wait for it.

Legend: B images, N captions an image, T time, M real tokens, S slots of an image, R = B x N rows, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from autocaption.data.tensors import mapped
from autocaption.data.tokenizer import PAD

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ImageMajor:
    """The real tokens of a batch, image by image and caption by caption.

    Operations on single tokens run over M rows without padding. Attention gets the captions of an image
    as one row of S slots (`spread`), S being the most tokens of any image, so that the image's keys and
    values serve all its captions at once.

    Attributes:
        shape: B, N, T.
        positions_M: where the tokens lie in the flattened (B, N, T).
        time_M: their positions in their captions.
        slots_M: where they lie in the flattened (B, S).
        caption_BS: the caption of each slot; -1 where it is empty.
    """

    shape: Shape
    positions_M: Tensor
    time_M: Tensor
    slots_M: Tensor
    caption_BS: Tensor

    @classmethod
    def of(cls, lengths_BN: np.ndarray, T: int) -> "ImageMajor":
        """The layout of captions with these numbers of tokens."""
        B, N = lengths_BN.shape
        row_M, time_M = _enumerated(lengths_BN.reshape(-1))
        image_M, caption_M = np.divmod(row_M, max(N, 1))
        tokens_B = lengths_BN.sum(1)
        S = max(int(tokens_B.max(initial=0)), 1)
        _, slot_M = _enumerated(tokens_B)
        slots_M = image_M * S + slot_M
        caption_BS = np.full((B, S), -1)
        caption_BS.reshape(-1)[slots_M] = caption_M
        return cls((B, N, T), *map(torch.from_numpy, (row_M * T + time_M, time_M, slots_M, caption_BS)))

    @cached_property
    def mask_BSS(self) -> Tensor:
        """True where a slot (first) may attend to a slot (second): in the same caption, not later.

        Empty slots attend to empty slots.
        """
        return (self.caption_BS.unsqueeze(2) == self.caption_BS.unsqueeze(1)).tril()

    def pack(self, x_BNT: Tensor) -> Tensor:
        """x_M, or x_MD of x_BNTD."""
        return x_BNT.flatten(0, 2).index_select(0, self.positions_M)

    def unpack(self, x_MD: Tensor) -> Tensor:
        """x_BNTD, zero at <pad>."""
        return _scattered(x_MD, self.positions_M, self.shape)

    def spread(self, x_MD: Tensor) -> Tensor:
        """x_BSD, zero where there is no token."""
        B, S = self.caption_BS.shape
        return x_MD.new_zeros(B * S, x_MD.shape[-1]).index_copy(0, self.slots_M, x_MD).view(B, S, -1)

    def gather(self, x_BSD: Tensor) -> Tensor:
        """x_MD of the real tokens."""
        return x_BSD.flatten(0, 1).index_select(0, self.slots_M)


@dataclass(frozen=True)
class TimeMajor:
    """The real tokens of a batch, time step by time step, for recurrent decoders without padding.

    Rows are sorted by length, longest first, so the rows of a time step are always the first ones.

    Attributes:
        shape: B, N, T.
        positions_M: where the tokens lie in the flattened (B, N, T).
        row_M: their rows.
        steps_M: where they lie in the flattened (T, B x N), captions in the order of the batch.
        order_R: the captions (B x N) in the order of the rows; image_R: their images.
        rows_T: number of rows with a token at each time step, which falls with time.
    """

    shape: Shape
    positions_M: Tensor
    row_M: Tensor
    steps_M: Tensor
    order_R: Tensor
    image_R: Tensor
    rows_T: tuple[int, ...]

    @classmethod
    def of(cls, lengths_BN: np.ndarray, T: int) -> "TimeMajor":
        """The layout of captions with these numbers of tokens."""
        B, N = lengths_BN.shape
        lengths_R = lengths_BN.reshape(-1)
        order_R = np.argsort(-lengths_R, kind="stable")
        real_TR = np.arange(T)[:, None] < lengths_R[order_R]
        time_M, row_M = real_TR.nonzero()
        caption_M = order_R[row_M]
        return cls(
            shape=(B, N, T),
            positions_M=torch.from_numpy(caption_M * T + time_M),
            row_M=torch.from_numpy(row_M),
            steps_M=torch.from_numpy(time_M * B * N + caption_M),
            order_R=torch.from_numpy(order_R),
            image_R=torch.from_numpy(order_R // max(N, 1)),
            rows_T=tuple(rows for rows in real_TR.sum(1).tolist() if rows),
        )

    def pack(self, x_BNT: Tensor) -> Tensor:
        """x_M, or x_MD of x_BNTD."""
        return x_BNT.flatten(0, 2).index_select(0, self.positions_M)

    def unpack(self, x_MD: Tensor) -> Tensor:
        """x_BNTD, zero at <pad>."""
        return _scattered(x_MD, self.positions_M, self.shape)

    def pack_steps(self, x_TRD: Tensor) -> Tensor:
        """x_MD of time steps by captions (B x N, in the order of the batch)."""
        return x_TRD.flatten(0, 1).index_select(0, self.steps_M)


@dataclass(frozen=True)
class Layout:
    """Where the real tokens of a batch lie, for either kind of decoder."""

    image_major: ImageMajor
    time_major: TimeMajor

    @classmethod
    def of_lengths(cls, lengths_BN: np.ndarray, T: int) -> "Layout":
        """The layout of captions with these numbers of tokens, within T time steps."""
        return cls(ImageMajor.of(lengths_BN, T), TimeMajor.of(lengths_BN, T))

    @classmethod
    def of(cls, tokens_BNT: Tensor) -> "Layout":
        """The layout of captions, each followed by <pad> only; waits for the device that they are on."""
        lengths_BN = (tokens_BNT != PAD).sum(2).cpu().numpy()
        return mapped(cls.of_lengths(lengths_BN, tokens_BNT.shape[2]), lambda x: x.to(tokens_BNT.device))


def slices(rows_T: Sequence[int]) -> list[tuple[slice, int]]:
    """For each time step, the slice of its tokens among the M, and their number."""
    ends = accumulate(rows_T)
    return [(slice(end - rows, end), rows) for end, rows in zip(ends, rows_T, strict=True)]


def _enumerated(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For groups of these sizes in a row, the group of each member and its index in the group."""
    starts = counts.cumsum() - counts
    group = np.repeat(np.arange(len(counts)), counts)
    return group, np.arange(len(group)) - starts[group]


def _scattered(x_MD: Tensor, positions_M: Tensor, shape: Shape) -> Tensor:
    B, N, T = shape
    return x_MD.new_zeros(B * N * T, x_MD.shape[-1]).index_copy(0, positions_M, x_MD).view(B, N, T, -1)
