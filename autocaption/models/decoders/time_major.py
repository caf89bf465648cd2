"""Legend: B images, N captions an image, T time, M real tokens, R = B x N rows, S = R x T, D width."""

from itertools import accumulate

import torch
from torch import Tensor

from autocaption.data.tokenizer import PAD


class TimeMajor:
    """The real tokens of a batch time by time, for recurrent decoders: no step meets padding.

    With the longest caption first, the rows that still go on at a time are the first of all.

    Attributes:
        tokens_M: the tokens; row_M the rows that they stand in.
        rows_T: how many rows have a token at each time; falls with time.
        order_R: the captions (B x N) in the order of the rows; image_R the images they belong to.
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
        self._place_M = self.order_R[self.row_M] * T + time_M

    def unpack(self, x_MD: Tensor) -> Tensor:
        """x_BNTD, zero at <pad>."""
        x_SD = x_MD.new_zeros(self.shape.numel(), x_MD.shape[-1])
        x_SD[self._place_M] = x_MD
        return x_SD.view(*self.shape, -1)


def slices(rows_T: list[int]) -> list[tuple[slice, int]]:
    """Where the tokens of each time stand among the M, and how many they are."""
    ends = accumulate(rows_T)
    return [(slice(end - rows, end), rows) for end, rows in zip(ends, rows_T, strict=True)]
