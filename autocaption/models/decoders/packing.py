"""Legend: B images, N captions an image, T time, M real tokens, S slots of an image, D width."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import PAD


class Packing:
    """The real tokens of a batch side by side, image by image and caption by caption.

    Everything that looks at one token at a time is done for M rows without padding. Attention gets
    the captions of an image as one row of S slots (`spread`), as long as the fullest image's, so
    that the image's keys and values serve all of its captions at once.

    Attributes:
        tokens_M: the tokens; time_M their places in their captions.
        mask_BSS: True where a slot (second) may be seen from a slot (first): in the same caption,
            not later. What is no token sees what is none.
    """

    def __init__(self, tokens_BNT: Tensor) -> None:
        self.real_BNT = tokens_BNT != PAD
        self.tokens_M = tokens_BNT[self.real_BNT]
        image_M, caption_M, self.time_M = self.real_BNT.nonzero(as_tuple=True)
        self.B = len(tokens_BNT)
        counts_B = self.real_BNT.sum((1, 2))
        self.S = max(int(counts_B.max()), 1)
        starts_B = counts_B.cumsum(0) - counts_B
        place_M = torch.arange(len(image_M), device=image_M.device) - starts_B[image_M]
        self.slots_M = image_M * self.S + place_M
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
