"""Decoder states of a search: rows are expanded, reordered and selected.

Legend: B images, K beams or samples an image, R = B x K rows.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from autocaption.data.tokenizer import BOS
from autocaption.models.protocols import Decoder, State


def batch_of(memory_BPD: Any) -> tuple[int, torch.device]:
    """(number of images, device) of a memory; an ensemble has a memory for each encoder."""
    first = tree_leaves(memory_BPD)[0]
    return len(first), first.device


def expand(state: State, k: int) -> State:
    """Repeat each image's row K times; what the rows of an image share stays as it is."""
    return State(tree_map(lambda part: part.repeat_interleave(k, 0), state.rows), state.images)


def begin(decoder: Decoder, memory_BPD: Any, k: int) -> tuple[Tensor, State]:
    """logits_RV of the first word and the state after <bos>, for K rows an image.

    All rows of an image are equal before the first word, so only one of them is decoded.
    """
    B, device = batch_of(memory_BPD)
    logits_BV, state = decoder.step(torch.full((B,), BOS, device=device), decoder.init_state(memory_BPD))
    return logits_BV.repeat_interleave(k, 0), expand(state, k)


def reorder(state: State, rows_R: Tensor) -> State:
    """The state of these rows, each from its own image."""
    return State(narrow(state.rows, rows_R), state.images)


def narrow(parts: Any, at: Tensor) -> Any:
    """Select rows, or images, of every tensor of a pytree."""
    return tree_map(lambda part: part.index_select(0, at), parts)
