"""Legend: B images, K captions an image, T time, P places, D width, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS, PAD
from autocaption.models.protocols import Decoder
from autocaption.search.captions import Captions, forbidden


class GreedySearch:
    """The likeliest word at every step.

    Args:
        max_length: words of a caption at most.
        allow_unk: whether <unk> may be generated.
    """

    def __init__(self, max_length: int, allow_unk: bool = False) -> None:
        self.max_length, self.forbidden = max_length, forbidden(allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Tensor) -> Captions:
        """One caption an image; its score is the sum of its tokens' log-probabilities."""
        B = len(memory_BPD)
        state = decoder.init_state(memory_BPD)
        tokens_B = memory_BPD.new_full((B,), BOS, dtype=torch.long)
        done_B = torch.zeros_like(tokens_B, dtype=torch.bool)
        scores_B = torch.zeros(B, device=memory_BPD.device)
        steps = []
        for _ in range(self.max_length):
            logits_BV, state = decoder.step(tokens_B, state)
            logp_BV = logits_BV.float().log_softmax(-1)
            logp_BV[:, self.forbidden] = -torch.inf
            best_B, tokens_B = logp_BV.max(-1)
            scores_B += best_B.masked_fill(done_B, 0)
            tokens_B = tokens_B.masked_fill(done_B, PAD)
            steps.append(tokens_B)
            done_B |= tokens_B == EOS
            if done_B.all():
                break
        return Captions(torch.stack(steps, dim=-1).unsqueeze(1), scores_B.unsqueeze(1))
