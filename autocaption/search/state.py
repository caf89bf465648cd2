"""Legend: B images, K beams or samples an image, R = B x K rows, V vocabulary."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map  # private; torch 2.15 has no public one

from autocaption.data.tokenizer import BOS
from autocaption.models.protocols import Decoder, State


def batch_of(memory_BPD: Any) -> tuple[int, torch.device]:
    """The number of images and the device of a memory; an ensemble may have one memory per encoder."""
    first = tree_leaves(memory_BPD)[0]
    return len(first), first.device


def expand(state: State, k: int) -> State:
    """Repeat each row K times; what an image's rows share stays as it is."""
    return State(tree_map(lambda part: part.repeat_interleave(k, 0), state.rows), state.images)


def begin(decoder: Decoder, memory_BPD: Any, k: int) -> tuple[Tensor, State]:
    """logits_RV of the first word and the state after <bos>, for K rows an image.

    All rows of an image are equal before the first word, so <bos> is decoded once an image.
    """
    B, device = batch_of(memory_BPD)
    logits_BV, state = decoder.step(torch.full((B,), BOS, device=device), decoder.init_state(memory_BPD))
    return logits_BV.repeat_interleave(k, 0), expand(state, k)


def reorder(state: State, rows_R: Tensor) -> State:
    """Select rows; every row must stay with its own image."""
    return State(narrow(state.rows, rows_R), state.images)


def narrow(parts: Any, index: Tensor) -> Any:
    """Select along the first dimension of every tensor of a pytree."""
    return tree_map(lambda part: part.index_select(0, index), parts)
