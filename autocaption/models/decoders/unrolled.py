"""Recurrences that attend to the memory, time step by time step, for autograd.

Legend: B images, N captions an image, K rows an image, R = B x K rows, M packed tokens (time-major), T time,
P places, A width of keys and queries, G gates.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autocaption.data.packing import TimeMajor


def additive_weights(query_RA: Tensor, keys_BPA: Tensor, score: nn.Linear) -> Tensor:
    """The weights alpha_BKP of additive attention, score(tanh(key + query)) (Bahdanau et al. 2015)."""
    query_BK1A = query_RA.view(len(keys_BPA), -1, 1, keys_BPA.shape[2])
    return score((keys_BPA.unsqueeze(1) + query_BK1A).tanh()).squeeze(3).softmax(2)


def unroll(
    step: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]],
    inputs_MG: Tensor,
    states: tuple[Tensor, ...],
    packing: TimeMajor,
) -> tuple[Tensor, ...]:
    """What a step gives at every token, packed.

    All rows take all time steps, which costs some padding, so that a compiled step meets one shape a batch
    and a row's image needs no copy.

    Args:
        step: (inputs_RG, *states) to the states after it, and what to return of it.
        inputs_MG: the inputs of the tokens.
        states: the images' states before the first token.
        packing: how the tokens are packed.
    """
    N = packing.shape[1]
    inputs_TRG = packing.unpack(inputs_MG).flatten(0, 1).transpose(0, 1)
    states = tuple(state_BD.repeat_interleave(N, 0) for state_BD in states)
    found: list[Any] = []
    for inputs_RG in inputs_TRG[: len(packing.rows_T)]:
        states, kept = step(inputs_RG, *states)
        found.append(kept)
    return tuple(packing.pack_steps(torch.stack(parts)) for parts in zip(*found, strict=True))
