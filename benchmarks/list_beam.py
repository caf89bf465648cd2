"""Beam search as it is usually written: image by image, with Python lists of beams."""

import math

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS
from autocaption.search.constraints import Constraints


@torch.no_grad()
def list_beam(decoder, memory_1PD: Tensor, beam_size: int, max_length: int) -> list[tuple[float, list[int]]]:
    """(sum of log-probabilities, tokens) of the best captions of one image, best first.

    What it finds is what `BeamSearch` finds without a length penalty.
    """
    live = [(0.0, [BOS], decoder.init_state(memory_1PD))]
    ended: list[tuple[float, list[int]]] = []
    for _ in range(max_length):
        candidates = []
        for total, tokens, state in live:
            logits_1V, after = decoder.step(torch.tensor(tokens[-1:]), state)
            logp_V = logits_1V[0].log_softmax(-1)
            logp_V[Constraints().never] = -math.inf
            values, words = logp_V.topk(beam_size + 1)  # one of them may be <eos>
            for value, word in zip(values.tolist(), words.tolist(), strict=True):
                candidates.append((total + value, [*tokens, word], after))
        candidates.sort(key=lambda candidate: -candidate[0])
        ended += [(total, tokens) for total, tokens, _ in candidates[:beam_size] if tokens[-1] == EOS]
        ended = sorted(ended, key=lambda caption: -caption[0])[:beam_size]
        live = [candidate for candidate in candidates if candidate[1][-1] != EOS][:beam_size]
        if len(ended) == beam_size and live[0][0] <= ended[-1][0]:
            return [(total, tokens[1:]) for total, tokens in ended]
    best = sorted([*ended, *((total, tokens) for total, tokens, _ in live)], key=lambda caption: -caption[0])
    return [(total, tokens[1:]) for total, tokens in best[:beam_size]]
