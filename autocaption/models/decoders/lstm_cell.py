"""One time step of an LSTM (Hochreiter & Schmidhuber 1997) and its gradient.

Legend: R rows, M packed tokens (of all time steps), D width, G = 4 D gates in torch's order (i, f, g, o).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Kept(NamedTuple):
    """Buffers for what the gradient of a step needs.

    Attributes:
        cell_RD: the cell state after the step.
        tanh_RD: its hyperbolic tangent.
        hidden_RD: the hidden state after the step.
    """

    cell_RD: Tensor
    tanh_RD: Tensor
    hidden_RD: Tensor


def advance(gates_RG: Tensor, c_RD: Tensor, kept: Kept | None = None) -> tuple[Tensor, Tensor]:
    """(h_RD, c_RD) after a step.

    Args:
        gates_RG: before their nonlinearities; where there are buffers, they are overwritten with what
            comes after.
        c_RD: the cell state before the step.
        kept: buffers to fill; None for a step that autograd can follow.
    """
    D = c_RD.shape[1]
    both_RF, g_RD, o_RD = gates_RG.split((2 * D, D, D), dim=1)
    in_place = kept is not None
    cell_RD, tanh_RD, hidden_RD = kept or (None, None, None)
    i_RD, f_RD = torch.sigmoid(both_RF, out=both_RF if in_place else None).split(D, dim=1)
    g_RD = torch.tanh(g_RD, out=g_RD if in_place else None)
    o_RD = torch.sigmoid(o_RD, out=o_RD if in_place else None)
    c_RD = torch.addcmul(torch.mul(f_RD, c_RD, out=cell_RD), i_RD, g_RD, out=cell_RD)
    return torch.mul(o_RD, torch.tanh(c_RD, out=tanh_RD), out=hidden_RD), c_RD


def slopes(gates_MG: Tensor, tanh_MD: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of the nonlinearities, and dc / dh, of all time steps at once."""
    D = tanh_MD.shape[1]
    # d sigmoid = s - s^2 and d tanh = 1 - t^2.
    slope_MG = gates_MG - gates_MG.square()
    slope_MG[:, 2 * D : 3 * D] = 1 - gates_MG[:, 2 * D : 3 * D].square()
    return slope_MG, gates_MG[:, 3 * D :] * (1 - tanh_MD.square())


def retreat(
    dgates_RG: Tensor,
    dh_RD: Tensor,
    dc_RD: Tensor,
    c_RD: Tensor,
    gates_RG: Tensor,
    tanh_RD: Tensor,
    slope_RG: Tensor,
    through_RD: Tensor,
) -> None:
    """From the gradients of a step's states to those of its gates, and of the cell state before.

    Args:
        dgates_RG: buffer for the gradient of the gates.
        dh_RD: gradient of the hidden state after the step; it stays.
        dc_RD: gradient of the cell state after the step; it becomes that of the cell state before.
        c_RD: the cell state before the step.
        gates_RG: after their nonlinearities.
        tanh_RD: as `advance` left it.
        slope_RG: the step's part of `slopes`, like through_RD.
    """
    D = c_RD.shape[1]
    dc_RD.addcmul_(dh_RD, through_RD)
    i, f, g, _o = gates_RG.split(D, dim=1)
    torch.mul(dc_RD, g, out=dgates_RG[:, :D])
    torch.mul(dc_RD, c_RD, out=dgates_RG[:, D : 2 * D])
    torch.mul(dc_RD, i, out=dgates_RG[:, 2 * D : 3 * D])
    torch.mul(dh_RD, tanh_RD, out=dgates_RG[:, 3 * D :])
    dgates_RG *= slope_RG
    dc_RD *= f
