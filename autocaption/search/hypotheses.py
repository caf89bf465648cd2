"""Live beams and finished captions of a beam search.

Legend: B images, K beams, C candidates, T time, V vocabulary.
"""

import torch
from torch import Tensor

from autocaption.data.tokenizer import EOS
from autocaption.models.protocols import Captions

BLOCK = 32  # candidates in a block; only blocks with a large maximum are searched


class BeamHypotheses:
    """The K live beams of each image, and a pool of its K best finished captions.

    Score -inf marks an empty beam.

    Attributes:
        live_BKT: the words of the beams, then zeros (<pad>); scores_BK: their summed log-probabilities.
        pool: the finished captions, best first, by score / length ** length_penalty.
    """

    def __init__(
        self, images: int, beams: int, max_length: int, length_penalty: float, device: torch.device
    ) -> None:
        self.K, self.T, self.length_penalty = beams, max_length, length_penalty
        self.live_BKT = torch.zeros(images, beams, max_length, dtype=torch.long, device=device)
        self.scores_BK = torch.full((images, beams), -torch.inf, device=device)
        self.scores_BK[:, 0] = 0  # before the first word all beams are equal
        self.pool = Captions(self.live_BKT.clone(), torch.full_like(self.scores_BK, -torch.inf))

    def grow(self, logp_BKV: Tensor, time: int, penalty_BV: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Extend each image's beams by a word: (tokens_BK, beams_BK that they continue).

        Args:
            logp_BKV: log-probabilities of the next word; overwritten.
            time: number of words of the live beams.
            penalty_BV: finite, added for the choice at this step but not to the scores.
        """
        B, K, V = logp_BKV.shape
        true_BC = logp_BKV.add_(self.scores_BK.unsqueeze(-1)).flatten(
            1
        )  # in place: this is the largest tensor
        ranked_BC = true_BC
        if penalty_BV is not None:
            ranked_BC = (true_BC.view(B, K, V) + penalty_BV.unsqueeze(1)).flatten(1)
        # At most K candidates end, one a beam, so 2 K always leave K that continue. An ending counts if
        # it is among the best K, so that K = 1 is greedy search.
        ranks_BC, indices_BC = top(ranked_BC, min(2 * K, K * V))
        beams_BC, tokens_BC = indices_BC // V, indices_BC % V
        scores_BC = true_BC.gather(1, indices_BC)
        captions_BCT = take(self.live_BKT, beams_BC)
        captions_BCT[:, :, time] = tokens_BC
        ended_BC = tokens_BC == EOS
        ended_scores_BK = scores_BC[:, :K].masked_fill(~ended_BC[:, :K], -torch.inf)
        self._keep(Captions(captions_BCT[:, :K], ended_scores_BK / self._length(time + 1)))
        _, order_BK = ranks_BC.masked_fill(ended_BC, -torch.inf).topk(K)
        self.scores_BK = scores_BC.masked_fill(ended_BC, -torch.inf).gather(1, order_BK)
        self.live_BKT = take(captions_BCT, order_BK)
        return tokens_BC.gather(1, order_BK), beams_BC.gather(1, order_BK)

    def finish(self) -> None:
        """Move the live beams, which have T words, to the pool."""
        self._keep(Captions(self.live_BKT, self.scores_BK / self._length(self.T)))

    def can_improve(self, words: int) -> Tensor:
        """Whether a live beam of each image can still beat the worst caption of its pool (bool, B).

        Summed log-probabilities only fall, so the current sum over the most favourable length is a bound.
        """
        favourable = max(self._length(words + 1), self._length(self.T))
        return self.scores_BK.amax(1) / favourable > self.pool.scores_BK.amin(1)

    def narrow(self, images_B: Tensor) -> None:
        """Keep these images only."""
        self.live_BKT, self.scores_BK = self.live_BKT[images_B], self.scores_BK[images_B]
        self.pool = Captions(self.pool.tokens_BKT[images_B], self.pool.scores_BK[images_B])

    def _length(self, words: int) -> float:
        return words**self.length_penalty

    def _keep(self, more: Captions) -> None:
        self.pool = best(self.pool, more, self.K)


def best(a: Captions, b: Captions, k: int) -> Captions:
    """The k best captions of both, for each image."""
    scores_BK, order_BK = torch.cat([a.scores_BK, b.scores_BK], 1).topk(k)
    return Captions(take(torch.cat([a.tokens_BKT, b.tokens_BKT], 1), order_BK), scores_BK)


def take(captions_BCT: Tensor, order_BK: Tensor) -> Tensor:
    """The captions of each image in this order."""
    index = order_BK.unsqueeze(-1).expand(-1, -1, captions_BCT.shape[-1])
    return captions_BCT.gather(1, index)


def top(scores_BC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`topk` with a single pass over all scores: the k best lie in the k blocks with the largest maxima."""
    B, C = scores_BC.shape
    blocks = C // BLOCK
    if blocks <= k:
        return scores_BC.topk(k)
    whole = scores_BC[:, : blocks * BLOCK].view(B, blocks, BLOCK)
    block_Bk = whole.amax(2).topk(k).indices
    index_BC = (block_Bk.unsqueeze(2) * BLOCK + torch.arange(BLOCK, device=scores_BC.device)).flatten(1)
    rest_C = torch.arange(blocks * BLOCK, C, device=scores_BC.device)
    index_BC = torch.cat([index_BC, rest_C.expand(B, -1)], 1)
    found_Bk, at_Bk = scores_BC.gather(1, index_BC).topk(k)
    return found_Bk, index_BC.gather(1, at_Bk)
