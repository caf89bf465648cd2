"""Legend: R rows (K beams or samples an image), S n-grams of a row, N tokens of one, T time, V vocabulary."""

import torch
from torch import Tensor

from autocaption.checks import switch, whole
from autocaption.data.tokenizer import EOS, PAD, UNK
from autocaption.errors import UserError

MOST = 10_000  # words; searches allocate memory for all of them


def longest(max_length: int, min_length: int) -> int:
    """`search.max_length`, checked.

    Raises:
        UserError: it is no whole number above 0, more than MOST, or less than `search.min_length`.
    """
    whole("search.max_length", max_length, 1, MOST)
    if whole("search.min_length", min_length, 0) > max_length:
        raise UserError(f"search.min_length={min_length} is more than search.max_length={max_length}")
    return max_length


class Constraints:
    """Constraints on the next token, applied as log-probabilities of -inf.

    Args:
        min_length: the minimum number of words before <eos>.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.
        allow_unk: whether <unk> may be generated.

    Raises:
        UserError: a length is no whole number, or negative; or allow_unk is neither true nor false.
    """

    def __init__(self, min_length: int = 0, no_repeat_ngram: int = 0, allow_unk: bool = False) -> None:
        self.min_length = whole("search.min_length", min_length, 0)
        self.no_repeat_ngram = whole("search.no_repeat_ngram", no_repeat_ngram, 0)
        self.allow_unk = switch("search.allow_unk", allow_unk)

    def forbid(self, logits_RV: Tensor) -> Tensor:
        """Forbid, in place, the tokens that no caption may have; by slices, since a GPU waits for indices."""
        logits_RV[:, :EOS] = -torch.inf  # <pad> and <bos>
        if not self.allow_unk:
            logits_RV[:, UNK] = -torch.inf
        return logits_RV

    def apply(self, logp_RV: Tensor, generated_RT: Tensor) -> Tensor:
        """Forbid next tokens in place, given the tokens generated so far.

        A row whose words are all forbidden ends with <eos>, whatever its probability. Before
        `min_length` <eos> is forbidden too, so such a row has no continuation (-inf everywhere).
        """
        self.forbid(logp_RV)
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
