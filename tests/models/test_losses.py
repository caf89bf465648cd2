"""Cross-entropy with and without label smoothing.

Legend: M real tokens, V vocabulary.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from autocaption.models.losses import cross_entropy

M, V = 7, 5


@pytest.fixture(name="logits_MV")
def logits():
    torch.manual_seed(0)
    return (3 * torch.randn(M, V)).requires_grad_()


@pytest.fixture(name="targets_M")
def targets():
    return torch.arange(M) % V


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_closed_form(logits_MV, targets_M, smoothing):
    logp_MV = logits_MV.log_softmax(-1)
    right = -sum(logp_MV[m, target] for m, target in enumerate(targets_M.tolist())) / M
    spread = -logp_MV.mean()
    loss = cross_entropy(logits_MV, targets_M, smoothing)
    torch.testing.assert_close(loss.objective, (1 - smoothing) * right + smoothing * spread)
    torch.testing.assert_close(loss.nll, right.detach())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_uniform_logits_cost_log_vocabulary_size(targets_M, smoothing):
    loss = cross_entropy(torch.zeros(M, V), targets_M, smoothing)
    assert loss.objective.item() == pytest.approx(math.log(V))
    assert loss.nll.exp().item() == pytest.approx(V)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_is_that_of_the_objective_alone(logits_MV, targets_M, smoothing):
    loss = cross_entropy(logits_MV, targets_M, smoothing)
    assert not loss.nll.requires_grad
    wanted_MV = (1 - smoothing) * F.one_hot(targets_M, V) + smoothing / V
    (grad_MV,) = torch.autograd.grad(loss.objective, logits_MV)
    torch.testing.assert_close(grad_MV, (logits_MV.softmax(-1) - wanted_MV) / M)


def test_half_precision_logits_are_summed_in_single(targets_M):
    logits_MV = torch.randn(M, V).bfloat16()
    loss = cross_entropy(logits_MV, targets_M, 0.1)
    assert loss.objective.dtype == loss.nll.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits_MV.float(), targets_M, 0.1))
