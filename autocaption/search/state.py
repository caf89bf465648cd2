"""Legend: B images, K beams or samples an image, R = B x K rows."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from autocaption.models.protocols import State


def expand(state: State, k: int) -> State:
    """K rows an image where there is one; what an image's rows share stays as it is."""
    return State(tree_map(lambda part: part.repeat_interleave(k, 0), state.rows), state.images)


def reorder(state: State, rows_R: Tensor) -> State:
    """These rows in the place of all; every image's own must stay with it."""
    return State(tree_map(lambda part: part.index_select(0, rows_R), state.rows), state.images)


def narrow(state: State, images_B: Tensor, k: int) -> State:
    """These images alone, with their K rows each."""
    rows_R = (images_B.unsqueeze(1) * k + torch.arange(k, device=images_B.device)).flatten()
    images = tree_map(lambda part: part.index_select(0, images_B), state.images)
    return State(reorder(state, rows_R).rows, images)
