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


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.bfloat16, 0.03)])
def test_attention_of_few_queries_equals_torchs(masked, dtype, error):
    q, keys, values = (torch.randn(2, 3, size, 4, dtype=dtype) for size in (5, 7, 7))
    mask = torch.zeros(2, 1, 5, 7).masked_fill(torch.rand(2, 1, 5, 7) < 0.5, -torch.inf)
    mask[..., 0] = 0.0  # no query sees nothing
    mask = mask if masked else None
    expected = F.scaled_dot_product_attention(
        *(part.double() for part in (q, keys, values)), attn_mask=None if mask is None else mask.double()
    )
    found = attend(q, keys, values, mask)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, atol=error, rtol=0)
