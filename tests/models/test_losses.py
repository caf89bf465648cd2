"""Cross-entropy with and without label smoothing.

Legend: M real tokens, V vocabulary.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.errors import UserError
from autocaption.models.losses import CrossEntropy, cross_entropy
from autocaption.models.protocols import Decoded

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


def test_a_second_backward_pass_is_refused_and_not_wrong(logits_MV, targets_M):
    objective = cross_entropy(logits_MV, targets_M, 0.1).objective
    objective.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        objective.backward()


def test_half_precision_logits_are_summed_in_single(targets_M):
    logits_MV = torch.randn(M, V).bfloat16()
    loss = cross_entropy(logits_MV, targets_M, 0.1)
    assert loss.objective.dtype == loss.nll.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits_MV.float(), targets_M, 0.1))


class Noisy:
    """A decoder of one word, whose logits differ from pass to pass."""

    def __init__(self, *passes):
        self.passes = list(passes)

    def __call__(self, memory_BPD, tokens_BNT, layout):
        return Decoded(self.passes.pop(0).expand(*tokens_BNT.shape, -1), penalty=0.25)

    def head(self, hidden):
        return hidden


def test_r_drop_is_half_of_the_paper_s_objective():
    first_V, second_V = torch.randn(2, V, generator=torch.Generator().manual_seed(1)).double()
    tokens_BNT = torch.tensor([[[1, 4, 2], [1, 2, 0]]])
    batch = Batch(("a",), (), tokens_BNT, Layout.of(tokens_BNT[..., 1:]))
    decoder = Noisy(first_V, second_V)
    found = CrossEntropy(0.0, r_drop=3.0)(decoder, torch.zeros(1), batch)
    p, q = (torch.distributions.Categorical(logits=logits_V) for logits_V in (first_V, second_V))
    nll = [-(one.log_prob(torch.tensor(4)) + 2 * one.log_prob(torch.tensor(2))) / 3 for one in (p, q)]
    kl = torch.distributions.kl_divergence
    expected = (sum(nll) + 3.0 / 2 * (kl(p, q) + kl(q, p))) / 2 + 0.25
    torch.testing.assert_close(found.total().double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.logged["loss"].double(), nll[0], atol=1e-6, rtol=0)
    assert not decoder.passes


class Seeing:
    """A decoder whose logits are the image's memory."""

    def __init__(self):
        self.memories = []

    def __call__(self, memory_BPD, tokens_BNT, layout):
        self.memories.append(memory_BPD)
        return Decoded(memory_BPD.unsqueeze(1).expand(*tokens_BNT.shape, -1), penalty=0.25)

    def head(self, hidden):
        return hidden


def test_mixup_shares_out_the_captions_of_two_images_as_their_memories():
    memory_B1V = torch.randn(3, 1, V, generator=torch.Generator().manual_seed(1)).double()
    tokens_BNT = torch.tensor([[[1, 4, 2]], [[1, 3, 2]], [[1, 2, 0]]])
    batch = Batch(tuple("abc"), (), tokens_BNT, Layout.of(tokens_BNT[..., 1:]))
    torch.manual_seed(0)
    shares = set()
    for _ in range(3):
        decoder = Seeing()
        found = CrossEntropy(0.0, mixup=0.4)(decoder, memory_B1V, batch)
        mixed_B1V = decoder.memories[0]
        share = ((mixed_B1V - memory_B1V.roll(1, 0)) / (memory_B1V - memory_B1V.roll(1, 0)))[0, 0, 0]
        assert 0.5 <= share <= 1
        expected, captions = 0.25, [[4, 2], [3, 2], [2]]
        for image in range(3):
            mixture = share * memory_B1V[image, 0] + (1 - share) * memory_B1V[image - 1, 0]
            logp_V = mixture.log_softmax(0)
            for weight, words in ((share, captions[image]), (1 - share, captions[image - 1])):
                expected = expected - weight * sum(logp_V[word] for word in words) / 5
        torch.testing.assert_close(found.total().double(), expected, atol=1e-6, rtol=0)
        shares.add(round(float(share), 6))
    assert len(shares) == 3


def test_mixup_of_one_image_is_none():
    memory_11V = torch.randn(1, 1, V, generator=torch.Generator().manual_seed(1))
    tokens_BNT = torch.tensor([[[1, 4, 2]]])
    batch = Batch(("a",), (), tokens_BNT, Layout.of(tokens_BNT[..., 1:]))
    alone = CrossEntropy(0.1)(Seeing(), memory_11V, batch)
    torch.testing.assert_close(CrossEntropy(0.1, mixup=1.0)(Seeing(), memory_11V, batch), alone)


def test_mixup_and_r_drop_are_refused_together():
    with pytest.raises(UserError, match=r"model.loss.r_drop and model.loss.mixup"):
        CrossEntropy(0.0, r_drop=1.0, mixup=0.4)
