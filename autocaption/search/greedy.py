"""Legend: B images, K captions an image, T time, P places of the memory, D width, V vocabulary."""

from collections.abc import Sequence
from typing import Any

import torch

from autocaption.data.sources import ImageId
from autocaption.data.tokenizer import BOS, EOS, PAD
from autocaption.models.protocols import Captions, Decoder
from autocaption.search.constraints import Constraints, longest
from autocaption.search.state import batch_of


class GreedySearch:
    """The most likely token at every step.

    Args:
        max_length: the maximum number of words.
        allow_unk: whether <unk> may be generated.
        min_length: the minimum number of words.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.
    """

    def __init__(
        self, max_length: int, allow_unk: bool = False, min_length: int = 0, no_repeat_ngram: int = 0
    ) -> None:
        self.max_length = longest(max_length, min_length)
        self.constraints = Constraints(min_length, no_repeat_ngram, allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> Captions:
        """One caption an image (K = 1), scored with the sum of its tokens' log-probabilities."""
        B, device = batch_of(memory_BPD)
        state = decoder.init_state(memory_BPD)
        tokens_B = torch.full((B,), BOS, device=device)
        done_B = torch.zeros(B, dtype=torch.bool, device=device)
        scores_B = torch.zeros(B, device=device)
        generated_BT = torch.zeros(B, self.max_length, dtype=torch.long, device=device)  # zero is <pad>
        for time in range(self.max_length):
            logits_BV, state = decoder.step(tokens_B, state)
            logp_BV = self.constraints.apply(logits_BV.float().log_softmax(-1), generated_BT[:, :time])
            best_B, tokens_B = logp_BV.max(-1)
            scores_B += best_B.masked_fill(done_B, 0)
            tokens_B = tokens_B.masked_fill(done_B | best_B.isinf(), PAD)  # -inf: no token is allowed
            generated_BT[:, time] = tokens_B
            done_B |= (tokens_B == EOS) | best_B.isinf()
            if done_B.all():
                break
        return Captions(generated_BT.unsqueeze(1), scores_B.unsqueeze(1))
