"""One time step of an LSTM and its gradient, for loops that keep what the gradient needs.

Legend: R rows, M packed tokens (of all time steps), D width, G = 4 D gates in torch's order (i, f, g, o).
"""

import torch
from torch import Tensor


def advance(
    gates_RG: Tensor, c_RD: Tensor, cell_RD: Tensor, tanh_RD: Tensor, hidden_RD: Tensor
) -> tuple[Tensor, Tensor]:
    """(h_RD, c_RD) after a step.

    Args:
        gates_RG: before their nonlinearities; they are overwritten with what comes after.
        c_RD: the cell state before.
        cell_RD: takes the cell state after; tanh_RD its hyperbolic tangent, hidden_RD the hidden state.
    """
    D = c_RD.shape[1]
    gates_RG[:, : 2 * D].sigmoid_()
    gates_RG[:, 2 * D : 3 * D].tanh_()
    gates_RG[:, 3 * D :].sigmoid_()
    i, f, g, o = gates_RG.split(D, dim=1)
    c = torch.mul(f, c_RD, out=cell_RD).addcmul_(i, g)
    return torch.mul(o, torch.tanh(c, out=tanh_RD), out=hidden_RD), c


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
        dgates_RG: takes the gates'.
        dh_RD: of the hidden state after; it stays.
        dc_RD: of the cell state after; it becomes that of the cell state before.
        c_RD: the cell state before.
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
