"""The hand-written recurrence of Show, Attend and Tell: its gradient.

Legend: as in attention_recurrence.py.
"""

import torch

from autocaption.data.packing import Layout
from autocaption.models.decoders.attention_recurrence import Weights, attend

TOKENS_BNT = torch.tensor([[[1, 5, 6, 0], [1, 0, 0, 0]], [[0, 0, 0, 0], [1, 4, 4, 5]]])
D, C, A, P, B = 3, 4, 2, 3, 2


def inputs():
    torch.manual_seed(0)
    M = int((TOKENS_BNT != 0).sum())
    shapes = [(M, 4 * D), (B, P, A), (B, P, C), (B, D), (B, D), (A, D), (A,), (D,), (1,), (4 * D, C + D)]
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def run(gates_MG, keys_BPA, values_BPC, h_BD, c_BD, *weights):
    packing = Layout.of(TOKENS_BNT).time_major
    return attend(gates_MG, (keys_BPA, values_BPC), (h_BD, c_BD), Weights(*weights), packing)


def test_gradients_pass_gradcheck():
    assert torch.autograd.gradcheck(run, inputs())


def test_backward_twice_gives_the_same():
    tensors = inputs()
    hidden_MD, context_MC, alpha_MP = run(*tensors)
    total = hidden_MD.sum() + context_MC.sum() + alpha_MP.square().sum()
    first = torch.autograd.grad(total, tensors, retain_graph=True)
    again = torch.autograd.grad(total, tensors)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
