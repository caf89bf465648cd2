"""Legend: B images, K beams or samples an image, R = B x K rows."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from autocaption.models.protocols import State


def batch_of(memory_BPD: Any) -> tuple[int, torch.device]:
    """How many images a memory is of, and where it lies; an ensemble's is a memory an encoder."""
    first = tree_leaves(memory_BPD)[0]
    return len(first), first.device


def expand(state: State, k: int) -> State:
    """K rows an image where there is one; what an image's rows share stays as it is."""
    return State(tree_map(lambda part: part.repeat_interleave(k, 0), state.rows), state.images)


def reorder(state: State, rows_R: Tensor) -> State:
    """These rows in the place of all; every image's own must stay with it."""
    return State(narrow(state.rows, rows_R), state.images)


def narrow(parts: Any, at: Tensor) -> Any:
    """These rows, or images, of every tensor of a pytree."""
    return tree_map(lambda part: part.index_select(0, at), parts)
