"""A decoder small enough to list every caption, and what a search generated with it.

Legend: B images, K captions an image, P places of the memory, D width, V vocabulary, R rows.
"""

import math

import torch

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.models.protocols import State

V, D = 7, 3
WORDS = tuple(range(UNK + 1, V))


class Markov:
    """Logits that depend on the memory and the last two tokens; memory[0] is added to that of <eos>."""

    def __init__(self, seed, size=V, sharpness=2.0):
        random = torch.Generator().manual_seed(seed)
        self.table_VVV = sharpness * torch.randn(size, size, size, generator=random)
        self.mix_DV = torch.randn(D, size, generator=random)
        self.mix_DV[0] = torch.eye(size)[EOS]
        self.steps = []  # the number of rows of each step

    def init_state(self, memory_BPD):
        bias_BV = memory_BPD.mean(1) @ self.mix_DV
        return State({"last": torch.full((len(memory_BPD),), BOS)}, {"bias": bias_BV})

    def step(self, tokens_R, state):
        self.steps.append(len(tokens_R))
        bias_BV = state.images["bias"]
        bias_RV = bias_BV.repeat_interleave(len(tokens_R) // len(bias_BV), 0)
        logits_RV = self.table_VVV[state.rows["last"], tokens_R] + bias_RV
        return logits_RV, State({"last": tokens_R}, state.images)

    def logp(self, memory_PD, tokens):
        """Log-probabilities of the next token, without a state."""
        *_, before, last = BOS, *tokens
        return (self.table_VVV[before, last] + memory_PD.mean(0) @ self.mix_DV).double().log_softmax(-1)


def memories(seed, images):
    return torch.randn(images, 2, D, generator=torch.Generator().manual_seed(seed))


def generated(captions, image=0):
    """[(tokens, score)] of an image, best first, without empty beams; checks padding and order."""
    found = []
    assert not captions.scores_BK.isnan().any()
    scores_K = captions.scores_BK[image].tolist()
    assert scores_K == sorted(scores_K, reverse=True)
    for tokens, score in zip(captions.tokens_BKT[image].tolist(), scores_K, strict=True):
        if score > -math.inf:
            kept = tokens[: tokens.index(EOS) + 1] if EOS in tokens else [t for t in tokens if t != PAD]
            assert tokens == kept + [PAD] * (len(tokens) - len(kept))
            found.append((tuple(kept), score))
    return found
