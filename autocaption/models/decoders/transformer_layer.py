"""Pre-norm transformer layers.

Legend: B images, S slots of an image (packing.py; in a search, all tokens that its rows have generated), M
real tokens, K rows of an image in a search, P places, D width, H heads, E = D / H.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocaption.data.packing import ImageMajor
from autocaption.models.dropout import Dropout

KeysValues = tuple[Tensor, Tensor]  # of the places, (B, H, P, E) each, or of slots


class FeedForward(nn.Module):
    """x + W2 gelu(W1 norm(x)): the pre-norm feed-forward block, four times as wide within.

    Args:
        width: D.
        dropout: applied within and to what is added to x.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return x + self.dropout(self.down(self.dropout(F.gelu(self.up(self.norm(x))))))


class MemoryLayer(nn.Module):
    """A pre-norm encoder layer: self-attention over the places, then the feed-forward block.

    Args:
        width: D.
        heads: H.
        dropout: applied to what each block adds.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout, self.feed_forward = Dropout(dropout), FeedForward(width, dropout)

    def forward(self, x_BPD: Tensor) -> Tensor:
        """memory_BPD to memory_BPD."""
        q_BHPE, k_BHPE, v_BHPE = split(self.qkv(self.norm(x_BPD)), 3, self.heads)
        seen_BHPE = F.scaled_dot_product_attention(q_BHPE, k_BHPE, v_BHPE)
        return self.feed_forward(x_BPD + self.dropout(self.out(merge(seen_BHPE))))


class TransformerLayer(nn.Module):
    """A pre-norm decoder layer: masked self-attention, attention over the memory, feed-forward.

    Args:
        width: D.
        heads: H.
        dropout: applied to what each block adds.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.cross_out = nn.Linear(width, width), nn.Linear(width, width)
        self.memory_keys_values = nn.Linear(width, 2 * width)
        self.dropout, self.feed_forward = Dropout(dropout), FeedForward(width, dropout)

    def keys_values(self, memory_BPD: Tensor) -> KeysValues:
        """Keys and values of the memory, projected once for all tokens of an image."""
        keys_BHPE, values_BHPE = split(self.memory_keys_values(memory_BPD), 2, self.heads)
        return keys_BHPE, values_BHPE

    def forward(self, x_MD: Tensor, packing: ImageMajor, memory: KeysValues) -> Tensor:
        """The tokens of whole captions at once: x_MD to x_MD."""
        x_MD = self._self_attend(x_MD, packing)
        seen_BHSE = F.scaled_dot_product_attention(self._queries(x_MD, packing), *memory)
        x_MD = x_MD + self.dropout(self.cross_out(packing.gather(merge(seen_BHSE))))
        return self.feed_forward(x_MD)

    def weights(self, x_MD: Tensor, packing: ImageMajor, memory: KeysValues) -> Tensor:
        """weights_MP of the places, the mean of the heads'."""
        q_BHSE = self._queries(self._self_attend(x_MD, packing), packing)
        scores_BHSP = q_BHSE @ memory[0].transpose(-1, -2) * q_BHSE.shape[-1] ** -0.5
        return packing.gather(scores_BHSP.softmax(-1).mean(1))

    def step(
        self, x_BKD: Tensor, past: KeysValues, mask_BKS: Tensor, memory: KeysValues
    ) -> tuple[Tensor, KeysValues]:
        """One token a row: x_BKD to x_BKD, and the past with the tokens' keys and values.

        Args:
            x_BKD: the new token of each row.
            past: keys and values of all tokens that an image's rows have generated, S - K of them.
            mask_BKS: True for a row's own tokens; the last K slots are the new tokens.
            memory: keys and values of the images' memory.
        """
        q_BHKE, *new = split(self.qkv(self.self_norm(x_BKD)), 3, self.heads)
        keys_BHSE, values_BHSE = (torch.cat(pair, 2) for pair in zip(past, new, strict=True))
        mask = mask_BKS.unsqueeze(1)
        seen_BHKE = F.scaled_dot_product_attention(q_BHKE, keys_BHSE, values_BHSE, attn_mask=mask)
        x_BKD = x_BKD + self.dropout(self.self_out(merge(seen_BHKE)))
        (q_BHKE,) = split(self.query(self.cross_norm(x_BKD)), 1, self.heads)
        seen_BHKE = F.scaled_dot_product_attention(q_BHKE, *memory)
        x_BKD = x_BKD + self.dropout(self.cross_out(merge(seen_BHKE)))
        return self.feed_forward(x_BKD), (keys_BHSE, values_BHSE)

    def _self_attend(self, x_MD: Tensor, packing: ImageMajor) -> Tensor:
        q_BHSE, k_BHSE, v_BHSE = split(packing.spread(self.qkv(self.self_norm(x_MD))), 3, self.heads)
        mask = packing.mask_BSS.unsqueeze(1)
        seen_BHSE = F.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE, attn_mask=mask)
        return x_MD + self.dropout(self.self_out(packing.gather(merge(seen_BHSE))))

    def _queries(self, x_MD: Tensor, packing: ImageMajor) -> Tensor:
        (q_BHSE,) = split(packing.spread(self.query(self.cross_norm(x_MD))), 1, self.heads)
        return q_BHSE


def split(x_BSD: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, S, parts x D) to as many (B, H, S, E)."""
    B, S, _ = x_BSD.shape
    return x_BSD.view(B, S, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def merge(x_BHSE: Tensor) -> Tensor:
    """(B, H, S, E) to (B, S, D)."""
    return x_BHSE.transpose(1, 2).flatten(2)
