"""The vocabulary projection. Legend: D width, V vocabulary."""

import pytest
import torch
import torch.nn.functional as F

from autocaption.models.decoders.logits import logits_of
from autocaption.models.decoders.transformer_layer import attend

D = 6


@pytest.mark.parametrize("V", [5, 16, 33])
@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3)])
def test_logits_of_a_search_are_a_linear_layers(V, leading):
    hidden, weight_VD, bias_V = torch.randn(*leading, D), torch.randn(V, D), torch.randn(V)
    with torch.no_grad():
        found = logits_of(hidden, weight_VD, bias_V)
    torch.testing.assert_close(found, F.linear(hidden, weight_VD, bias_V))


def test_rows_begin_with_a_cache_line_in_a_search():
    with torch.no_grad():
        found = logits_of(torch.randn(4, D), torch.randn(33, D), torch.randn(33))
    assert found.stride(0) * found.element_size() % 64 == 0


def test_logits_have_gradients_in_training_and_the_type_of_autocast():
    weight_VD, bias_V = torch.randn(5, D, requires_grad=True), torch.zeros(5, requires_grad=True)
    logits_of(torch.ones(3, D), weight_VD, bias_V).sum().backward()
    assert weight_VD.grad is not None
    assert torch.equal(weight_VD.grad, torch.full((5, D), 3.0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert logits_of(torch.ones(3, D), weight_VD, bias_V).dtype == torch.bfloat16


@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
@pytest.mark.parametrize("queries", [5, 40])
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]
)
def test_attention_and_its_gradients_equal_torchs(mask, queries, dtype, error):
    inputs = [torch.randn(2, 3, size, 4, dtype=dtype, requires_grad=True) for size in (queries, 7, 7)]
    doubles = [part.detach().double().requires_grad_() for part in inputs]
    seen = torch.rand(2, 1, queries, 7) < 0.5
    seen[..., 0] = True  # no query sees nothing
    if mask is not None:
        mask = seen if mask == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    expected = F.scaled_dot_product_attention(*doubles, attn_mask=None if mask is None else seen)
    found = attend(*inputs, mask)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=error, rtol=0)
    expected.sum().backward()
    found.sum().backward()
    for part, double in zip(inputs, doubles, strict=True):
        assert part.grad is not None
        torch.testing.assert_close(part.grad.double(), double.grad, atol=10 * error, rtol=10 * error)
