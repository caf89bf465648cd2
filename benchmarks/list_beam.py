"""Beam search as it is usually written, as a baseline: image by image, with Python lists of beams."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS
from autocaption.search.constraints import Constraints


@torch.no_grad()
def list_beam(decoder, memory_1PD: Tensor, beam_size: int, max_length: int) -> list[tuple[float, list[int]]]:
    """(sum of log-probabilities, tokens) of one image's best captions, best first.

    It finds the captions that `BeamSearch` finds without a length penalty.
    """
    live = [(0.0, [BOS], decoder.init_state(memory_1PD))]
    finished: list[tuple[float, list[int]]] = []
    for _ in range(max_length):
        candidates = []
        for total, tokens, state in live:
            logits_1V, after = decoder.step(torch.tensor(tokens[-1:]), state)
            logp_V = logits_1V[0].log_softmax(-1)
            Constraints().forbid(logp_V.unsqueeze(0))
            values, words = logp_V.topk(beam_size + 1)  # one of them may be <eos>
            for value, word in zip(values.tolist(), words.tolist(), strict=True):
                candidates.append((total + value, [*tokens, word], after))
        candidates.sort(key=lambda candidate: -candidate[0])
        finished += [(total, tokens) for total, tokens, _ in candidates[:beam_size] if tokens[-1] == EOS]
        finished = sorted(finished, key=lambda caption: -caption[0])[:beam_size]
        live = [candidate for candidate in candidates if candidate[1][-1] != EOS][:beam_size]
        if len(finished) == beam_size and live[0][0] <= finished[-1][0]:
            return [(total, tokens[1:]) for total, tokens in finished]
    captions = [*finished, *((total, tokens) for total, tokens, _ in live)]
    captions.sort(key=lambda caption: -caption[0])
    return [(total, tokens[1:]) for total, tokens in captions[:beam_size]]
