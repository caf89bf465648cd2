"""Legend: B images, K beams, C candidates, T time, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import EOS
from autocaption.models.protocols import Captions

BLOCK = 32  # of candidates that are looked through by their largest first


class Beams:
    """The K live beams of each image, and a pool of its K best finished captions.

    A beam of score -inf is none.

    Attributes:
        live_BKT: the words of the beams, then zeros (<pad>); scores_BK their summed log-probabilities.
        pool: the finished captions by their scores over length ** length_penalty, best first.
    """

    def __init__(
        self, images: int, beams: int, max_length: int, length_penalty: float, device: torch.device
    ) -> None:
        self.K, self.T, self.length_penalty = beams, max_length, length_penalty
        self.live_BKT = torch.zeros(images, beams, max_length, dtype=torch.long, device=device)
        self.scores_BK = torch.full((images, beams), -torch.inf, device=device)
        self.scores_BK[:, 0] = 0  # all beams are alike before the first word
        self.pool = Captions(self.live_BKT.clone(), torch.full_like(self.scores_BK, -torch.inf))

    def grow(self, logp_BKV: Tensor, time: int, prize_BV: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each image's best continuations by a word: (tokens_BK, and beams_BK that they continue).

        Args:
            logp_BKV: of the next word; it is overwritten.
            time: words of the live beams.
            prize_BV: added for the choice at this step, not to the scores; finite.
        """
        B, K, V = logp_BKV.shape
        true_BC = logp_BKV.add_(self.scores_BK.unsqueeze(-1)).flatten(1)  # no second copy of so much
        ranked_BC = true_BC
        if prize_BV is not None:
            ranked_BC = (true_BC.view(B, K, V) + prize_BV.unsqueeze(1)).flatten(1)
        # At most K of the candidates end, one a beam, so 2 K always leave K to go on with. An
        # ending counts if it is among the best K: so a beam of one is greedy search.
        ranks_BC, places_BC = top(ranked_BC, min(2 * K, K * V))
        beams_BC, tokens_BC = places_BC // V, places_BC % V
        scores_BC = true_BC.gather(1, places_BC)
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
        """Captions of T words count as finished."""
        self._keep(Captions(self.live_BKT, self.scores_BK / self._length(self.T)))

    def can_improve(self, words: int) -> Tensor:
        """Whether a live beam of each image could still beat the worst of its pool (bool, B).

        Log-probabilities only fall, so the sum now over the most favourable length is a bound.
        """
        favourable = max(self._length(words + 1), self._length(self.T))
        return self.scores_BK.amax(1) / favourable > self.pool.scores_BK.amin(1)

    def narrow(self, images_B: Tensor) -> None:
        """These images alone."""
        self.live_BKT, self.scores_BK = self.live_BKT[images_B], self.scores_BK[images_B]
        self.pool = Captions(self.pool.tokens_BKT[images_B], self.pool.scores_BK[images_B])

    def _length(self, words: int) -> float:
        return words**self.length_penalty

    def _keep(self, more: Captions) -> None:
        self.pool = best(self.pool, more, self.K)


def best(a: Captions, b: Captions, k: int) -> Captions:
    """The k best captions of both, image by image."""
    scores_BK, order_BK = torch.cat([a.scores_BK, b.scores_BK], 1).topk(k)
    return Captions(take(torch.cat([a.tokens_BKT, b.tokens_BKT], 1), order_BK), scores_BK)


def take(captions_BCT: Tensor, order_BK: Tensor) -> Tensor:
    """The captions at these places of each image."""
    index = order_BK.unsqueeze(-1).expand(-1, -1, captions_BCT.shape[-1])
    return captions_BCT.gather(1, index)


def top(scores_BC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`topk`, with one pass over all scores: the k best are in the blocks whose largest are the k best."""
    B, C = scores_BC.shape
    blocks = C // BLOCK
    if blocks <= k:
        return scores_BC.topk(k)
    whole = scores_BC[:, : blocks * BLOCK].view(B, blocks, BLOCK)
    block_Bk = whole.amax(2).topk(k).indices
    place_BC = (block_Bk.unsqueeze(2) * BLOCK + torch.arange(BLOCK, device=scores_BC.device)).flatten(1)
    rest_C = torch.arange(blocks * BLOCK, C, device=scores_BC.device)
    place_BC = torch.cat([place_BC, rest_C.expand(B, -1)], 1)
    found_Bk, at_Bk = scores_BC.gather(1, place_BC).topk(k)
    return found_Bk, place_BC.gather(1, at_Bk)
