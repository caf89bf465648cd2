"""Legend: R rows (K beams or samples an image), S n-grams of a row, N tokens of one, T time, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.errors import UserError


class Constraints:
    """Constraints on the next token, applied as log-probabilities of -inf.

    Args:
        min_length: the minimum number of words before <eos>.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.
        allow_unk: whether <unk> may be generated.

    Raises:
        UserError: a length is negative.
    """

    def __init__(self, min_length: int = 0, no_repeat_ngram: int = 0, allow_unk: bool = False) -> None:
        for name, value in (("min_length", min_length), ("no_repeat_ngram", no_repeat_ngram)):
            if value < 0:
                raise UserError(f"search.{name}={value} is negative; use 0 for no limit")
        self.min_length, self.no_repeat_ngram = min_length, no_repeat_ngram
        self.forbidden = [PAD, BOS] if allow_unk else [PAD, BOS, UNK]

    def apply(self, logp_RV: Tensor, generated_RT: Tensor) -> Tensor:
        """Forbid next tokens in place, given the tokens generated so far.

        A row whose words are all forbidden ends with <eos>, whatever its probability. Before
        `min_length` <eos> is forbidden too, so such a row has no continuation (-inf everywhere).
        """
        logp_RV[:, self.forbidden] = -torch.inf
        if generated_RT.shape[1] < self.min_length:
            logp_RV[:, EOS] = -torch.inf
        n = self.no_repeat_ngram
        if n and generated_RT.shape[1] >= n:
            ngrams_RSN = generated_RT.unfold(1, n, 1)
            prefix_RS = generated_RT[:, generated_RT.shape[1] - n + 1 :].unsqueeze(1)  # the last n - 1 tokens
            repeated_RS = (ngrams_RSN[..., :-1] == prefix_RS).all(-1)
            forbidden_RS = ngrams_RSN[..., -1].where(repeated_RS, PAD)  # <pad> is forbidden anyway
            logp_RV.scatter_(1, forbidden_RS, -torch.inf)
        return logp_RV
