"""Pre-norm transformer layers.

Legend: B images, S slots of an image (packing.py; in a search, all tokens that its rows have generated), M
real tokens, K rows of an image in a search, Q queries, P places, L levels of the memory, D width, H heads,
E = D / H.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from autocaption.data.packing import ImageMajor
from autocaption.models.dropout import Dropout

FEW = 32  # queries an image, as a search has them
# Without cuDNN's, which torch prefers on some GPUs: it plans anew, for tens of milliseconds, whenever the
# number of slots is one that it has not seen, and every batch and every step of a search has its own.
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
KeysValues = tuple[Tensor, Tensor]  # of the places, (B, L x H, P, E) each, or of slots, (B, H, S, E) each


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

    Places may also attend to learnt vectors, which hold what is known beforehand rather than seen: memory
    slots, more keys and values (Cornia et al. 2020, eq. 2).

    Args:
        width: D.
        heads: H.
        dropout: applied to what each block adds.
        slots: memory slots; 0 for none.
    """

    def __init__(self, width: int, heads: int, dropout: float, slots: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout, self.feed_forward = Dropout(dropout), FeedForward(width, dropout)
        # Keys, then values.
        self.slots = nn.Parameter(torch.randn(slots, 2 * width) * width**-0.5) if slots else None

    def forward(self, x_BPD: Tensor) -> Tensor:
        """memory_BPD to memory_BPD."""
        D = x_BPD.shape[-1]
        queries_BPD, known = self.qkv(self.norm(x_BPD)).split([D, 2 * D], -1)
        if self.slots is not None:
            slots = self.slots.to(known.dtype).expand(len(known), -1, -1)
            known = torch.cat([known, slots], 1)
        (q_BHPE,), (k_BHPE, v_BHPE) = split(queries_BPD, 1, self.heads), split(known, 2, self.heads)
        seen_BHPE = attend(q_BHPE, k_BHPE, v_BHPE)
        return self.feed_forward(x_BPD + self.dropout(self.out(merge(seen_BHPE))))


class Mesh(nn.Module):
    """The sum of what a token sees at each level of the memory, through gates (Cornia et al. 2020, eq. 5, 7).

    The gates of a level, alpha = sigmoid(W [y, seen] + b), weigh each element by the token and by what it
    sees there. They are initialised by Glorot & Bengio (2010), half open.

    Args:
        width: D.
        levels: L.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(levels, 2 * width, width))
        self.bias = nn.Parameter(torch.zeros(levels * width))  # a vector: it is not decayed
        for weight in self.weight:
            nn.init.xavier_uniform_(weight)

    def forward(self, y: Tensor, seen: Tensor) -> Tensor:
        """y (..., D) and what it sees (..., L, D) to (..., D)."""
        both = torch.cat([y.to(seen.dtype).unsqueeze(-2).expand_as(seen), seen], -1)
        bias_LD = self.bias.to(seen.dtype).view(seen.shape[-2:])
        gates = (torch.einsum("...li,lio->...lo", both, self.weight) + bias_LD).sigmoid()
        return (gates * seen).sum(-2)


class TransformerLayer(nn.Module):
    """A pre-norm decoder layer: masked self-attention, attention over the memory, feed-forward.

    A memory of several levels is attended to level by level with the same projections, as if each had heads
    of its own, and a mesh adds up what is seen.

    Args:
        width: D.
        heads: H.
        dropout: applied to what each block adds.
        levels: L.
    """

    def __init__(self, width: int, heads: int, dropout: float, levels: int = 1) -> None:
        super().__init__()
        self.heads, self.levels = heads, levels
        self.self_norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.cross_out = nn.Linear(width, width), nn.Linear(width, width)
        self.memory_keys_values = nn.Linear(width, 2 * width)
        self.dropout, self.feed_forward = Dropout(dropout), FeedForward(width, dropout)
        self.mesh = Mesh(width, levels) if levels > 1 else None

    def keys_values(self, memory_BLPD: Tensor) -> KeysValues:
        """Keys and values of the memory, projected once for all tokens of an image."""
        B, L, P, _ = memory_BLPD.shape
        both = self.memory_keys_values(memory_BLPD).view(B, L, P, 2, self.heads, -1)
        keys, values = both.permute(3, 0, 1, 4, 2, 5).flatten(2, 3).unbind(0)
        return keys, values

    def forward(self, x_MD: Tensor, packing: ImageMajor, memory: KeysValues) -> Tensor:
        """The tokens of whole captions at once: x_MD to x_MD."""
        x_MD = self._self_attend(x_MD, packing)
        y_MD = self.cross_norm(x_MD)
        queries = self._queries(packing.spread(self.query(y_MD)))
        seen = merge(attend(queries, *memory))
        x_MD = x_MD + self.dropout(self._read(y_MD, packing.gather(seen)))
        return self.feed_forward(x_MD)

    def weights(self, x_MD: Tensor, packing: ImageMajor, memory: KeysValues) -> Tensor:
        """weights_MP of the places, the mean of all heads' at all levels."""
        y_MD = self.cross_norm(self._self_attend(x_MD, packing))
        queries = self._queries(packing.spread(self.query(y_MD)))
        scores = queries @ memory[0].transpose(-1, -2) * queries.shape[-1] ** -0.5
        return packing.gather(scores.softmax(-1).mean(1))

    def step(
        self, x_BKD: Tensor, past: KeysValues, mask_BKS: Tensor, memory: KeysValues
    ) -> tuple[Tensor, KeysValues]:
        """One token a row: x_BKD to x_BKD, and the past with the tokens' keys and values.

        Args:
            x_BKD: the new token of each row.
            past: keys and values of all tokens that an image's rows have generated, S - K of them.
            mask_BKS: 0 for a row's own tokens, -inf for others; the last K slots are the new tokens.
            memory: keys and values of the images' memory.
        """
        q_BHKE, *new = split(self.qkv(self.self_norm(x_BKD)), 3, self.heads)
        keys_BHSE, values_BHSE = (torch.cat(pair, 2) for pair in zip(past, new, strict=True))
        seen_BHKE = attend(q_BHKE, keys_BHSE, values_BHSE, mask_BKS.unsqueeze(1))
        x_BKD = x_BKD + self.dropout(self.self_out(merge(seen_BHKE)))
        y_BKD = self.cross_norm(x_BKD)
        seen = merge(attend(self._queries(self.query(y_BKD)), *memory))
        x_BKD = x_BKD + self.dropout(self._read(y_BKD, seen))
        return self.feed_forward(x_BKD), (keys_BHSE, values_BHSE)

    def _self_attend(self, x_MD: Tensor, packing: ImageMajor) -> Tensor:
        q_BHSE, k_BHSE, v_BHSE = split(packing.spread(self.qkv(self.self_norm(x_MD))), 3, self.heads)
        seen_BHSE = attend(q_BHSE, k_BHSE, v_BHSE, packing.mask_BSS.unsqueeze(1))
        return x_MD + self.dropout(self.self_out(packing.gather(merge(seen_BHSE))))

    def _queries(self, queries_BSD: Tensor) -> Tensor:
        """(B, L x H, S, E): the same for every level."""
        (q_BHSE,) = split(queries_BSD, 1, self.heads)
        return q_BHSE.unsqueeze(1).expand(-1, self.levels, -1, -1, -1).flatten(1, 2)

    def _read(self, y: Tensor, seen: Tensor) -> Tensor:
        """What tokens y (..., D) take from what they see (..., L x D)."""
        if self.mesh is None:
            return self.cross_out(seen)
        return self.mesh(y, self.cross_out(seen.unflatten(-1, (self.levels, -1))))


def attend(q_BHQE: Tensor, keys_BHSE: Tensor, values_BHSE: Tensor, mask_B1QS: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: seen_BHQE.

    On a CPU torch's fused kernel pays for many queries in fp32 alone. For few, plain products are faster,
    since it copies keys and values first; in bf16 its gradients take four times as long as theirs.

    Args:
        q_BHQE: the queries.
        keys_BHSE: the keys; likewise the values.
        mask_B1QS: True or 0 where a query may attend, False or -inf elsewhere.
    """
    B, H, Q, E = q_BHQE.shape
    if mask_B1QS is not None and mask_B1QS.dtype != torch.bool:
        mask_B1QS = mask_B1QS.to(q_BHQE.dtype)
    if q_BHQE.device.type != "cpu" or (q_BHQE.dtype == torch.float32 and Q > FEW):
        with sdpa_kernel(KERNELS):
            return F.scaled_dot_product_attention(q_BHQE, keys_BHSE, values_BHSE, attn_mask=mask_B1QS)
    q, keys, values = (part.flatten(0, 1) for part in (q_BHQE, keys_BHSE, values_BHSE))
    q = q * E**-0.5
    if mask_B1QS is None:
        scores = torch.bmm(q, keys.mT)
    else:
        if mask_B1QS.dtype == torch.bool:
            mask_B1QS = torch.zeros_like(mask_B1QS, dtype=q.dtype).masked_fill(~mask_B1QS, -torch.inf)
        scores = torch.baddbmm(mask_B1QS.expand(-1, H, -1, -1).flatten(0, 1), q, keys.mT)
    return torch.bmm(scores.softmax(-1), values).unflatten(0, (B, H))


def split(x_BSD: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, S, parts x D) to as many (B, H, S, E)."""
    B, S, _ = x_BSD.shape
    return x_BSD.view(B, S, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def merge(x_BHSE: Tensor) -> Tensor:
    """(B, H, S, E) to (B, S, D)."""
    return x_BHSE.transpose(1, 2).flatten(2)
