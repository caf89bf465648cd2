"""Legend: B images, K captions an image (best first), T time."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Captions:
    """What a search found.

    Attributes:
        tokens_BKT: int64, without <bos>, with <eos> where the caption ended, then <pad>.
        scores_BK: by what the captions are ordered; -inf where there are fewer than K.
    """

    tokens_BKT: Tensor
    scores_BK: Tensor
