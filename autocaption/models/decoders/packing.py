"""The real tokens of a batch without padding: image by image for attention, time by time for recurrences.

Legend: B images, N captions an image, T time, M real tokens, S slots of an image, R = B x N rows, D width.
"""

from itertools import accumulate

import torch
from torch import Tensor

from autocaption.data.tokenizer import PAD


class ImageMajor:
    """The real tokens of a batch, image by image and caption by caption.

    Operations on single tokens run over M rows without padding. Attention gets the captions of an image
    as one row of S slots (`spread`), S being the most tokens of any image, so that the image's keys and
    values serve all its captions at once.

    Attributes:
        tokens_M: the tokens; time_M: their positions in their captions.
        mask_BSS: True where a slot (first) may attend to a slot (second): in the same caption, not later.
            Empty slots attend to empty slots.
    """

    def __init__(self, tokens_BNT: Tensor) -> None:
        self.real_BNT = tokens_BNT != PAD
        self.tokens_M = tokens_BNT[self.real_BNT]
        image_M, caption_M, self.time_M = self.real_BNT.nonzero(as_tuple=True)
        self.B = len(tokens_BNT)
        counts_B = self.real_BNT.sum((1, 2))
        self.S = max(int(counts_B.max()), 1)
        starts_B = counts_B.cumsum(0) - counts_B
        slot_M = torch.arange(len(image_M), device=image_M.device) - starts_B[image_M]
        self.slots_M = image_M * self.S + slot_M
        caption_BS = torch.full((self.B, self.S), -1, device=image_M.device)
        caption_BS.view(-1)[self.slots_M] = caption_M
        self.mask_BSS = (caption_BS.unsqueeze(2) == caption_BS.unsqueeze(1)).tril()

    def spread(self, x_MD: Tensor) -> Tensor:
        """x_BSD, zero where there is no token."""
        x_SD = x_MD.new_zeros(self.B * self.S, x_MD.shape[-1])
        return x_SD.index_copy(0, self.slots_M, x_MD).view(self.B, self.S, -1)

    def gather(self, x_BSD: Tensor) -> Tensor:
        """x_MD of the real tokens."""
        return x_BSD.flatten(0, 1).index_select(0, self.slots_M)

    def unpack(self, x_MD: Tensor) -> Tensor:
        """x_BNTD, zero at <pad>."""
        x_BNTD = x_MD.new_zeros(*self.real_BNT.shape, x_MD.shape[-1])
        return x_BNTD.masked_scatter(self.real_BNT.unsqueeze(-1), x_MD)


class TimeMajor:
    """The real tokens of a batch, time step by time step, for recurrent decoders without padding.

    Rows are sorted by length, longest first, so the rows of a time step are always the first ones.

    Attributes:
        tokens_M: the tokens; row_M: their rows.
        rows_T: number of rows with a token at each time step, which falls with time.
        order_R: the captions (B x N) in the order of the rows; image_R: their images.
    """

    def __init__(self, tokens_BNT: Tensor) -> None:
        self.shape = tokens_BNT.shape
        _, N, T = self.shape
        tokens_RT = tokens_BNT.flatten(0, 1)
        lengths_R = (tokens_RT != PAD).sum(1)
        self.order_R = lengths_R.argsort(descending=True, stable=True)
        self.image_R = self.order_R // N
        real_TR = torch.arange(T, device=tokens_RT.device)[:, None] < lengths_R[self.order_R]
        self.tokens_M = tokens_RT[self.order_R].T[real_TR]
        time_M, self.row_M = real_TR.nonzero(as_tuple=True)
        self.rows_T = [rows for rows in real_TR.sum(1).tolist() if rows]
        self._row_M, self._time_M = self.order_R[self.row_M], time_M

    def unpack(self, x_MD: Tensor) -> Tensor:
        """x_BNTD, zero at <pad>."""
        x_RTD = x_MD.new_zeros(self.shape[0] * self.shape[1], self.shape[2], x_MD.shape[-1])
        x_RTD[self._row_M, self._time_M] = x_MD
        return x_RTD.view(*self.shape, -1)

    def pack(self, x_TRD: Tensor) -> Tensor:
        """x_MD of time steps by captions (B x N, in the order of the batch)."""
        return x_TRD[self._time_M, self._row_M]


def slices(rows_T: list[int]) -> list[tuple[slice, int]]:
    """For each time step, the slice of its tokens among the M, and their number."""
    ends = accumulate(rows_T)
    return [(slice(end - rows, end), rows) for end, rows in zip(ends, rows_T, strict=True)]
