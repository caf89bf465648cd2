"""Legend: B images, K beams, C candidates, T time, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import EOS
from autocaption.models.protocols import Captions

BLOCK = 32  # candidates a block in `top`


class BeamHypotheses:
    """The K live beams of each image, and a pool of its K best finished captions.

    Score -inf marks an empty beam.

    Attributes:
        live_BKT: the tokens of the live beams, then zeros (<pad>).
        scores_BK: the sums of their log-probabilities.
        pool: the finished captions, best first by sum / length ** length_penalty.
    """

    def __init__(
        self, images: int, beams: int, max_length: int, length_penalty: float, device: torch.device
    ) -> None:
        self.K, self.T, self.length_penalty = beams, max_length, length_penalty
        self.live_BKT = torch.zeros(images, beams, max_length, dtype=torch.long, device=device)
        self.scores_BK = torch.full((images, beams), -torch.inf, device=device)
        self.scores_BK[:, 0] = 0  # all beams are equal before the first word, so one is enough
        self.pool = Captions(self.live_BKT.clone(), torch.full_like(self.scores_BK, -torch.inf))

    def grow(self, logp_BKV: Tensor, time: int, penalty_BV: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Extend the live beams by a token and move those that end to the pool.

        Args:
            logp_BKV: log-probabilities of the next token.
            time: the length of the live beams.
            penalty_BV: subtracted when candidates are ranked, but not from their scores; finite.

        Returns:
            tokens_BK, the new tokens, and beams_BK, the indices of the beams that they extend.
        """
        _, K, V = logp_BKV.shape
        # At most one candidate a beam ends, so K of the best 2 K always live on. One that ends counts
        # only among the best K, which makes a beam of one greedy search.
        ranked_BKV = logp_BKV if penalty_BV is None else logp_BKV - penalty_BV.unsqueeze(1)
        ranking_BC, index_BC = top(self.scores_BK, ranked_BKV, min(2 * K, K * V))
        beams_BC, tokens_BC = index_BC // V, index_BC % V
        scores_BC = self.scores_BK.gather(1, beams_BC) + logp_BKV.flatten(1).gather(1, index_BC)
        captions_BCT = take(self.live_BKT, beams_BC)
        captions_BCT[:, :, time] = tokens_BC
        ended_BC = tokens_BC == EOS
        ended_scores_BK = scores_BC[:, :K].masked_fill(~ended_BC[:, :K], -torch.inf)
        self._keep(Captions(captions_BCT[:, :K], ended_scores_BK / self._normalizer(time + 1)))
        _, order_BK = ranking_BC.masked_fill(ended_BC, -torch.inf).topk(K)
        self.scores_BK = scores_BC.masked_fill(ended_BC, -torch.inf).gather(1, order_BK)
        self.live_BKT = take(captions_BCT, order_BK)
        return tokens_BC.gather(1, order_BK), beams_BC.gather(1, order_BK)

    def finish(self) -> None:
        """Move the live beams, which have reached T tokens, to the pool."""
        self._keep(Captions(self.live_BKT, self.scores_BK / self._normalizer(self.T)))

    def can_improve(self, length: int) -> Tensor:
        """Whether a live beam of each image, now of this length, could still enter its pool (bool, B).

        Log-probabilities never rise, so the current sum over the most favourable length is an upper bound.
        """
        favourable = max(self._normalizer(length + 1), self._normalizer(self.T))
        return self.scores_BK.amax(1) / favourable > self.pool.scores_BK.amin(1)

    def narrow(self, images_B: Tensor) -> None:
        """Keep only these images."""
        self.live_BKT, self.scores_BK = self.live_BKT[images_B], self.scores_BK[images_B]
        self.pool = Captions(self.pool.tokens_BKT[images_B], self.pool.scores_BK[images_B])

    def _normalizer(self, length: int) -> float:
        return length**self.length_penalty

    def _keep(self, more: Captions) -> None:
        self.pool = best(self.pool, more, self.K)


def best(a: Captions, b: Captions, k: int) -> Captions:
    """The k best captions of each image out of both."""
    scores_BK, order_BK = torch.cat([a.scores_BK, b.scores_BK], 1).topk(k)
    return Captions(take(torch.cat([a.tokens_BKT, b.tokens_BKT], 1), order_BK), scores_BK)


def take(captions_BCT: Tensor, order_BK: Tensor) -> Tensor:
    """Select captions of each image by their indices."""
    index = order_BK.unsqueeze(-1).expand(-1, -1, captions_BCT.shape[-1])
    return captions_BCT.gather(1, index)


def top(scores_BK: Tensor, logp_BKV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`topk` of each image's sums scores_BK + logp_BKV: the k best, and their places among K x V.

    In one pass over all log-probabilities, since the best lie in the k blocks with the largest maxima.
    """
    B, K, V = logp_BKV.shape
    blocks, device = V // BLOCK, logp_BKV.device
    if K * blocks <= k:
        return (scores_BK.unsqueeze(2) + logp_BKV).flatten(1).topk(k)
    largest_BKb = logp_BKV[..., : blocks * BLOCK].unflatten(2, (blocks, BLOCK)).amax(3)
    block_Bk = (scores_BK.unsqueeze(2) + largest_BKb).flatten(1).topk(k).indices
    start_Bk = block_Bk // blocks * V + block_Bk % blocks * BLOCK
    rest_C = torch.arange(K, device=device).unsqueeze(1) * V + torch.arange(blocks * BLOCK, V, device=device)
    within_BC = (start_Bk.unsqueeze(2) + torch.arange(BLOCK, device=device)).flatten(1)
    index_BC = torch.cat([within_BC, rest_C.flatten().expand(B, -1)], 1)
    sums_BC = scores_BK.gather(1, index_BC // V) + logp_BKV.flatten(1).gather(1, index_BC)
    found_Bk, at_Bk = sums_BC.topk(k)
    return found_Bk, index_BC.gather(1, at_Bk)
