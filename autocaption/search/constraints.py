"""Constraints on generated tokens.

Legend: B images, K beams or samples an image, R = B x K rows, T time, V vocabulary.
"""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.errors import UserError


class Constraints:
    """Constraints on the next token, applied as -inf.

    Args:
        min_length: fewest words of a caption.
        no_repeat_ngram: n such that no n-gram may occur twice in a caption; 0 for no limit.
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

    def apply(self, logp_RV: Tensor, generated_RT: Tensor) -> Tensor:
        """Set the log-probabilities of forbidden tokens to -inf, in place, given the tokens so far.

        Where every word is forbidden, <eos> remains, whatever its probability; before `min_length` not
        even that, so the row has no continuation (-inf everywhere).
        """
        logp_RV[:, self.never] = -torch.inf
        if generated_RT.shape[1] < self.min_length:
            logp_RV[:, EOS] = -torch.inf
        n = self.no_repeat_ngram
        if n and generated_RT.shape[1] >= n:
            ngrams_RSN = generated_RT.unfold(1, n, 1)  # every n-gram so far
            last_RS = generated_RT[:, generated_RT.shape[1] - n + 1 :].unsqueeze(1)
            again_RS = (ngrams_RSN[..., :-1] == last_RS).all(-1)
            forbidden_RS = ngrams_RSN[..., -1].where(again_RS, PAD)  # <pad> is always forbidden
            logp_RV.scatter_(1, forbidden_RS, -torch.inf)
        return logp_RV
