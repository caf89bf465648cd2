"""Legend: B images, K beams or samples an image, R = B x K rows, T time, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.errors import UserError


class Constraints:
    """What a caption may not say next; a search sets these log-probabilities to -inf.

    Args:
        min_length: words before <eos> may come.
        no_repeat_ngram: n for which no n words may come twice in a caption; 0 for no such rule.
        allow_unk: whether <unk> may be generated.

    Raises:
        UserError: a length below zero.
    """

    def __init__(self, min_length: int = 0, no_repeat_ngram: int = 0, allow_unk: bool = False) -> None:
        for name, value in (("min_length", min_length), ("no_repeat_ngram", no_repeat_ngram)):
            if value < 0:
                raise UserError(f"search.{name}={value}: take 0 for none, or more")
        self.min_length, self.no_repeat_ngram = min_length, no_repeat_ngram
        self.never = [PAD, BOS] if allow_unk else [PAD, BOS, UNK]

    def apply(self, logp_RV: Tensor, said_RT: Tensor) -> Tensor:
        """Forbid in place, given the words said so far.

        Where all words are forbidden, <eos> is what is left, whatever its probability; it never is
        before `min_length`, so such a row ends with no continuation (-inf everywhere).
        """
        logp_RV[:, self.never] = -torch.inf
        if said_RT.shape[1] < self.min_length:
            logp_RV[:, EOS] = -torch.inf
        n = self.no_repeat_ngram
        if n and said_RT.shape[1] >= n:
            ngrams_RSN = said_RT.unfold(1, n, 1)  # every n-gram of the past
            last_RS = said_RT[:, said_RT.shape[1] - n + 1 :].unsqueeze(1)
            again_RS = (ngrams_RSN[..., :-1] == last_RS).all(-1)
            forbidden_RS = ngrams_RSN[..., -1].where(again_RS, PAD)  # <pad> is forbidden anyway
            logp_RV.scatter_(1, forbidden_RS, -torch.inf)
        return logp_RV
