"""Dropout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocaption.checks import number
from autocaption.data.tokenizer import UNK


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) with cheap masks on a CPU.

    torch draws one random number for each element, which on a CPU takes longer than the product before it.
    Here eight elements share a draw of 64 bits, a byte each, so the probability is rounded to 256ths, and
    so is the scale of what is kept. On other devices this is torch's dropout.

    Args:
        p: the probability of zeroing an element in training, 0 <= p < 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = number("model.decoder.dropout", p, at_least=0, below=1)

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements; the shape stays."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 256), 255)
        draws = torch.empty(x.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * (kept * (256 / (256 - dropped))).to(x.dtype)

    def extra_repr(self) -> str:
        """The probability, for print(model)."""
        return f"p={self.p}"


class WordDropout(nn.Module):
    """Replaces input words, <bos> among them, by <unk> in training, so that they are relied on less.

    Source: Bowman et al. 2016.

    Args:
        p: the share of words replaced, from 0 to 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = number("model.decoder.word_dropout", p, at_least=0, at_most=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Replace tokens; the shape stays."""
        if not self.training or self.p == 0:
            return tokens
        return tokens.masked_fill(torch.rand(tokens.shape, device=tokens.device) < self.p, UNK)

    def extra_repr(self) -> str:
        """The share, for print(model)."""
        return f"p={self.p}"
