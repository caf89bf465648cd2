"""Legend: B images, K beams in all, T time, P places of the memory, D width, V vocabulary, R = B x K rows."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch

from autocaption.checks import number, whole
from autocaption.data.sources import ImageId
from autocaption.errors import UserError
from autocaption.models.protocols import Captions, Decoder
from autocaption.search.constraints import Constraints, longest
from autocaption.search.hypotheses import BeamHypotheses, best
from autocaption.search.state import batch_of, begin, reorder


class DiverseBeamSearch:
    """Groups of beams that avoid each other's words (Vijayakumar et al. 2018, Hamming diversity).

    At each time step the groups choose one after the other, and a word is penalised by `diversity` for
    each beam of an earlier group that chose it at this step (algorithm 1). The penalty affects only the
    choice: scores stay those of BeamSearch, so the captions of all groups are comparable.

    Args:
        beam_size: K, also the number of captions returned for an image.
        groups: the number of groups, a divisor of K; 1 for plain beam search.
        diversity: lambda, in nats.
        length_penalty: 0 for the sum of log-probabilities, 1 for their mean.
        max_length: the maximum number of words.
        allow_unk: whether <unk> may be generated.
        min_length: the minimum number of words.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.

    Raises:
        UserError: a value is out of range, or the beams can't be divided into groups of equal size.
    """

    def __init__(
        self,
        beam_size: int,
        groups: int,
        diversity: float,
        length_penalty: float,
        max_length: int,
        allow_unk: bool = False,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
    ) -> None:
        self.beam_size = whole("search.beam_size", beam_size, 1)
        self.groups = whole("search.groups", groups, 1)
        if beam_size % groups:
            raise UserError(f"search.beam_size={beam_size} is not a multiple of search.groups={groups}")
        self.diversity = number("search.diversity", diversity, at_least=0)
        self.length_penalty = number("search.length_penalty", length_penalty, -10, 10)
        self.max_length = longest(max_length, min_length)
        self.constraints = Constraints(min_length, no_repeat_ngram, allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> Captions:
        """The K captions of all groups, best first; two groups may generate the same one."""
        (B, device), K, T = batch_of(memory_BPD), self.beam_size, self.max_length
        logits_RV, state = begin(decoder, memory_BPD, K)
        size = K // self.groups
        groups = [BeamHypotheses(B, size, T, self.length_penalty, device) for _ in range(self.groups)]
        rows_B1 = torch.arange(B, device=device).unsqueeze(1) * K
        for time in range(T):
            generated_BKT = torch.cat([group.live_BKT for group in groups], 1)[..., :time]
            logp_RV = self.constraints.apply(logits_RV.float().log_softmax(-1), generated_BKT.flatten(0, 1))
            penalty_BV = logp_RV.new_zeros(B, logp_RV.shape[1])
            tokens, rows = [], []
            for index, (group, logp_BKV) in enumerate(
                zip(groups, logp_RV.view(B, K, -1).split(size, 1), strict=True)
            ):
                tokens_BK, beams_BK = group.grow(logp_BKV, time, penalty_BV)
                added_BK = torch.full_like(group.scores_BK, self.diversity)
                penalty_BV.scatter_add_(1, tokens_BK, added_BK.masked_fill(group.scores_BK.isinf(), 0))
                tokens.append(tokens_BK)
                rows.append(rows_B1 + index * size + beams_BK)
            if time == T - 1 or not any(group.can_improve(time + 1).any() for group in groups):
                break
            state = reorder(state, torch.cat(rows, 1).flatten())
            logits_RV, state = decoder.step(torch.cat(tokens, 1).flatten(), state)
        if time == T - 1:
            for group in groups:
                group.finish()
        return reduce(lambda a, b: best(a, b, a.scores_BK.shape[1] + size), (g.pool for g in groups))
