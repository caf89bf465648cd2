"""An LSTM over packed sequences whose backward pass does each large matrix product once.

On a CPU, torch's packed LSTM takes a `narrow` of the whole input at every time step, whose gradient is a
zero-filled copy of the whole, so its cost grows with the square of the length. Here the products with the
inputs are one GEMM for all time steps, forward and backward, as are both weight gradients; only the
recurrent products stay in the loop. Under autocast the products take bf16 operands; all else stays fp32.

Legend: M packed tokens (time-major; at each time step those of the rows not yet ended), T time, R rows
(longest first), D width, E width of the input, G = 4 D gates in torch's order (i, f, g, o).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from autocaption.data.packing import slices
from autocaption.models.decoders.lstm_cell import Kept, advance, retreat, slopes

States = tuple[Tensor, Tensor]  # h_RD and c_RD of a layer


class _Layer(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ME: Tensor,
        h0_RD: Tensor,
        c0_RD: Tensor,
        w_ih_GE: Tensor,
        w_hh_GD: Tensor,
        bias_G: Tensor,
        rows_T: Sequence[int],
        dtype: torch.dtype,
    ) -> Tensor:
        """hidden_MD of one layer; keeps what the gradient needs.

        Args:
            ctx: autograd's.
            x_ME: the inputs.
            h0_RD: hidden states before the first input; c0_RD: their cell states.
            w_ih_GE: input to gates; w_hh_GD: hidden state to gates.
            bias_G: the sum of both biases.
            rows_T: number of rows at each time step, which falls with time.
            dtype: of the products' operands.
        """
        D = h0_RD.shape[1]
        x_ME, w_ih_GE, w_hh_GD = x_ME.to(dtype), w_ih_GE.to(dtype), w_hh_GD.to(dtype)
        gates_MG = (x_ME @ w_ih_GE.T).to(bias_G.dtype).add_(bias_G)
        before_MD = gates_MG.new_empty(len(x_ME), D)  # the hidden state before each token
        cell_MD, tanh_MD, hidden_MD = (torch.empty_like(before_MD) for _ in range(3))
        h, c = h0_RD, c0_RD
        for at, rows in slices(rows_T):
            h, c = h[:rows], c[:rows]
            before_MD[at] = h
            gates = gates_MG[at]
            if dtype == gates.dtype:
                gates.addmm_(h, w_hh_GD.T)
            else:
                gates += h.to(dtype) @ w_hh_GD.T
            h, c = advance(gates, c, Kept(cell_MD[at], tanh_MD[at], hidden_MD[at]))
        ctx.save_for_backward(x_ME, c0_RD, w_ih_GE, w_hh_GD, gates_MG, before_MD, cell_MD, tanh_MD)
        ctx.rows_T, ctx.dtype = rows_T, dtype
        return hidden_MD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the tensors of `forward`, from that of hidden_MD."""
        x_ME, c0_RD, w_ih_GE, w_hh_GD, gates_MG, before_MD, cell_MD, tanh_MD = ctx.saved_tensors
        (hidden_grad_MD,) = grads
        slope_MG, through_MD = slopes(gates_MG, tanh_MD)
        grad_MG = torch.empty_like(gates_MG)
        dh_RD, dc_RD = torch.zeros_like(c0_RD), torch.zeros_like(c0_RD)
        steps = slices(ctx.rows_T)
        for step in reversed(range(len(steps))):
            at, rows = steps[step]
            c_before = cell_MD[steps[step - 1][0]][:rows] if step else c0_RD[:rows]
            # Rows that end at this step still have the zero gradients that they started with.
            dh, dc = dh_RD[:rows], dc_RD[:rows]
            dh += hidden_grad_MD[at]
            grad = grad_MG[at]
            retreat(grad, dh, dc, c_before, gates_MG[at], tanh_MD[at], slope_MG[at], through_MD[at])
            dh.copy_(grad.to(ctx.dtype) @ w_hh_GD)
        bias_grad_G = grad_MG.sum(0)
        grad_MG = grad_MG.to(ctx.dtype)
        x_grad, *weight_grads = (
            product.to(bias_grad_G.dtype)
            for product in (grad_MG @ w_ih_GE, grad_MG.T @ x_ME, grad_MG.T @ before_MD.to(ctx.dtype))
        )
        return x_grad, dh_RD, dc_RD, *weight_grads, bias_grad_G, None, None


@torch.compiler.disable  # a loop over the steps of the longest caption; unrolling it gains nothing
def lstm(module: torch.nn.LSTM, x_ME: Tensor, rows_T: Sequence[int], h_LRD: Tensor, c_LRD: Tensor) -> Tensor:
    """The last layer's hidden_MD of a packed batch that starts from given states.

    Args:
        module: holds the weights; the code above uses them on a CPU, torch's kernels elsewhere.
        x_ME: the inputs.
        rows_T: number of rows at each time step, which falls with time.
        h_LRD: hidden states of L layers before the first input; c_LRD: their cell states.
    """
    if x_ME.device.type != "cpu":
        return by_torch(module, x_ME, rows_T, h_LRD, c_LRD)
    dropout = module.dropout if module.training else 0.0
    parameter_dtype: Any = module.weight_ih_l0.dtype
    x_ME, h_LRD, c_LRD = (part.to(parameter_dtype) for part in (x_ME, h_LRD, c_LRD))
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else parameter_dtype
    with torch.autocast("cpu", enabled=False):
        for layer in range(module.num_layers):
            if layer and dropout:
                x_ME = torch.nn.functional.dropout(x_ME, dropout)
            w_ih, w_hh, b_ih, b_hh = (getattr(module, f"{name}_l{layer}") for name in _WEIGHTS)
            x_ME = _Layer.apply(x_ME, h_LRD[layer], c_LRD[layer], w_ih, w_hh, b_ih + b_hh, rows_T, dtype)
    return x_ME


def by_torch(
    module: torch.nn.LSTM, x_ME: Tensor, rows_T: Sequence[int], h_LRD: Tensor, c_LRD: Tensor
) -> Tensor:
    """What `lstm` gives, by torch's kernels.

    The weights are the module's parameters of this moment. Its own forward takes them from a list, whose
    gradients are wrong on a GPU where FSDP gathers and frees them (torch 2.11).
    """
    rows = rows_T[0]  # torch takes no states of rows without tokens
    start = h_LRD[:, :rows].contiguous(), c_LRD[:, :rows].contiguous()
    weights = [getattr(module, f"{name}_l{layer}") for layer in range(module.num_layers) for name in _WEIGHTS]
    options = True, module.num_layers, module.dropout, module.training, False  # biases, ..., one direction
    return torch.lstm(x_ME, torch.tensor(rows_T), start, weights, *options)[0]


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def cell(module: torch.nn.LSTM, x_RE: Tensor, states: Sequence[States]) -> tuple[States, ...]:
    """One time step of all layers: the states after the input."""
    after = []
    dropout = module.dropout if module.training else 0.0
    for layer, before in enumerate(states):
        if layer and dropout:
            x_RE = torch.nn.functional.dropout(x_RE, dropout)
        weights = (getattr(module, f"{name}_l{layer}") for name in _WEIGHTS)
        x_RE, c_RD = torch.lstm_cell(x_RE, before, *weights)
        after.append((x_RE, c_RD))
    return tuple(after)
