"""Legend: B images, K beams, T time, P places of the memory, D width, V vocabulary, R = B x K rows."""

from collections.abc import Sequence
from typing import Any

import torch

from autocaption.checks import number, whole
from autocaption.data.sources import ImageId
from autocaption.models.protocols import Captions, Decoder, State
from autocaption.search.constraints import Constraints, longest
from autocaption.search.hypotheses import BeamHypotheses
from autocaption.search.state import batch_of, begin, narrow, reorder

SHRINK_AT = 0.7  # the batch is shrunk once at most this share of its images is still active


class BeamSearch:
    """Beam search, batched over images and beams.

    Each image has K live beams, which grow by a token a step, and a pool of its K best finished
    captions. A caption's score is the sum of its tokens' log-probabilities (<eos> included) divided by
    length ** length_penalty. A caption that reaches `max_length` words counts as finished. An image is
    done once no live beam can enter its pool, so stopping early never changes a result; images that are
    done leave the batch.

    Args:
        beam_size: K, also the number of captions returned for an image.
        length_penalty: 0 for the sum of log-probabilities, 1 for their mean.
        max_length: the maximum number of words.
        allow_unk: whether <unk> may be generated.
        min_length: the minimum number of words.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.
    """

    def __init__(
        self,
        beam_size: int,
        length_penalty: float,
        max_length: int,
        allow_unk: bool = False,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
    ) -> None:
        self.beam_size = whole("search.beam_size", beam_size, 1)
        self.length_penalty = number("search.length_penalty", length_penalty, -10, 10)
        self.max_length = longest(max_length, min_length)
        self.constraints = Constraints(min_length, no_repeat_ngram, allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> Captions:
        """The K best captions of each image, best first."""
        (B, device), K, T = batch_of(memory_BPD), self.beam_size, self.max_length
        logits_RV, state = begin(decoder, memory_BPD, K)
        beams = BeamHypotheses(B, K, T, self.length_penalty, device)
        result, images_B = beams.pool, torch.arange(B, device=device)  # images_B: those still in the batch
        for time in range(T):
            generated_RT = beams.live_BKT[..., :time].flatten(0, 1)
            logp_RV = self.constraints.apply(logits_RV.float().log_softmax(-1), generated_RT)
            tokens_BK, beams_BK = beams.grow(logp_RV.unflatten(0, (-1, K)), time)
            active_B = beams.can_improve(time + 1)
            active = int(active_B.sum())
            if not active or time == T - 1:
                break
            rows_BK = torch.arange(len(images_B), device=device).unsqueeze(1) * K + beams_BK
            if active > SHRINK_AT * len(images_B):
                state = reorder(state, rows_BK.flatten())
            else:
                result = _written(result, beams.pool, images_B)
                kept_B = active_B.nonzero().squeeze(1)
                state = State(reorder(state, rows_BK[kept_B].flatten()).rows, narrow(state.images, kept_B))
                beams.narrow(kept_B)
                images_B, tokens_BK = images_B[kept_B], tokens_BK[kept_B]
            logits_RV, state = decoder.step(tokens_BK.flatten(), state)
        if time == T - 1:
            beams.finish()
        return _written(result, beams.pool, images_B)


def _written(result: Captions, pool: Captions, images_B: torch.Tensor) -> Captions:
    """The result with the pools of these images."""
    return Captions(
        result.tokens_BKT.index_copy(0, images_B, pool.tokens_BKT),
        result.scores_BK.index_copy(0, images_B, pool.scores_BK),
    )
