"""Legend: B images, K beams, C candidates, T time, P places, D width, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS
from autocaption.models.protocols import Decoder
from autocaption.search.captions import Captions, forbidden
from autocaption.search.state import expand, reorder


class BeamSearch:
    """Beam search, batched over images and beams.

    Each image has K live beams, which grow by a word a step, and a pool of the K best finished
    captions. A caption's score is the sum of its tokens' log-probabilities (<eos> included) over
    length ** length_penalty. A caption that reaches `max_length` words counts as finished. The
    search of an image ends when no live beam can enter its pool any more, so that the early stop
    changes no result.

    Args:
        beam_size: K, and the captions returned an image.
        length_penalty: 0 for the plain sum, 1 for the mean.
        max_length: words of a caption at most.
        allow_unk: whether <unk> may be generated.
    """

    def __init__(
        self, beam_size: int, length_penalty: float, max_length: int, allow_unk: bool = False
    ) -> None:
        self.beam_size, self.length_penalty = beam_size, length_penalty
        self.max_length, self.forbidden = max_length, forbidden(allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Tensor) -> Captions:
        """The K best captions of each image, best first."""
        B, K, T, device = len(memory_BPD), self.beam_size, self.max_length, memory_BPD.device
        rows_BK = torch.arange(B * K, device=device).view(B, K)
        state = expand(decoder.init_state(memory_BPD), K)
        tokens_BK = torch.full((B, K), BOS, device=device)
        live_BKT = torch.zeros(B, K, T, dtype=torch.long, device=device)  # zero is <pad>
        live_scores_BK = torch.full((B, K), -torch.inf, device=device)
        live_scores_BK[:, 0] = 0  # all beams are alike before the first word
        pool = Captions(live_BKT.clone(), torch.full_like(live_scores_BK, -torch.inf))

        for t in range(T):
            logits_RV, state = decoder.step(tokens_BK.flatten(), state)
            logp_RV = logits_RV.float().log_softmax(-1)
            logp_RV[:, self.forbidden] = -torch.inf
            V = logp_RV.shape[-1]
            total_BC = (live_scores_BK.unsqueeze(-1) + logp_RV.view(B, K, V)).flatten(1)
            # At most K of the candidates end, one a beam, so 2 K always leave K to go on with. An
            # ending counts if it is among the best K: so a beam of one is greedy search.
            scores_BC, places_BC = total_BC.topk(min(2 * K, K * V))
            beams_BC, tokens_BC = places_BC // V, places_BC % V
            captions_BCT = _take(live_BKT, beams_BC)
            captions_BCT[:, :, t] = tokens_BC
            ended_BC = tokens_BC == EOS

            ended_scores_BK = scores_BC[:, :K].masked_fill(~ended_BC[:, :K], -torch.inf)
            ended = Captions(captions_BCT[:, :K], ended_scores_BK / self._length(t + 1))
            pool = _best(pool, ended, K)
            live_scores_BK, order_BK = scores_BC.masked_fill(ended_BC, -torch.inf).topk(K)
            live_BKT = _take(captions_BCT, order_BK)
            if not self._can_improve(live_scores_BK, pool, t + 1).any():
                break
            tokens_BK = tokens_BC.gather(1, order_BK)
            source_BK = rows_BK[:, :1] + beams_BC.gather(1, order_BK)
            state = reorder(state, source_BK.flatten())
        else:
            pool = _best(pool, Captions(live_BKT, live_scores_BK / self._length(T)), K)
        return pool

    def _length(self, words: int) -> float:
        return words**self.length_penalty

    def _can_improve(self, live_scores_BK: Tensor, pool: Captions, words: int) -> Tensor:
        """Whether a live beam of each image could still beat the worst of its pool.

        Log-probabilities only fall, so the sum now over the most favourable length is a bound.
        """
        favourable = max(self._length(words + 1), self._length(self.max_length))
        return live_scores_BK.amax(1) / favourable > pool.scores_BK.amin(1)


def _best(a: Captions, b: Captions, k: int) -> Captions:
    """The k best captions of both, image by image."""
    scores_BK, order_BK = torch.cat([a.scores_BK, b.scores_BK], 1).topk(k)
    return Captions(_take(torch.cat([a.tokens_BKT, b.tokens_BKT], 1), order_BK), scores_BK)


def _take(captions_BCT: Tensor, order_BK: Tensor) -> Tensor:
    index = order_BK.unsqueeze(-1).expand(-1, -1, captions_BCT.shape[-1])
    return captions_BCT.gather(1, index)
