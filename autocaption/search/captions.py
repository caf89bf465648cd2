"""Legend: B images, K captions an image (best first), T time."""

from dataclasses import dataclass

from torch import Tensor

from autocaption.data.tokenizer import BOS, PAD, UNK


@dataclass(frozen=True)
class Captions:
    """What a search found.

    Attributes:
        tokens_BKT: int64, without <bos>, with <eos> where the caption ended, then <pad>.
        scores_BK: by what the captions are ordered; -inf where there are fewer than K.
    """

    tokens_BKT: Tensor
    scores_BK: Tensor


def forbidden(allow_unk: bool) -> list[int]:
    """Tokens that no caption may hold."""
    return [PAD, BOS] if allow_unk else [PAD, BOS, UNK]
