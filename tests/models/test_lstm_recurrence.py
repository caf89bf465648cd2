"""The hand-written packed LSTM against torch's.

Legend: M packed tokens, E width of the input, D width, R rows, L layers, T time.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from autocaption.models.decoders.lstm_recurrence import by_torch, cell, lstm

E, D = 3, 4


def make(layers, rows, tokens, seed=0):
    """An LSTM, its inputs and its first states, in float64 and all with gradients."""
    torch.manual_seed(seed)
    module = nn.LSTM(E, D, layers).double()
    x_ME = torch.randn(tokens, E, dtype=torch.float64, requires_grad=True)
    h_LRD, c_LRD = torch.randn(2, layers, rows, D, dtype=torch.float64)
    return module, x_ME, h_LRD.requires_grad_(), c_LRD.requires_grad_()


rows_of_time = st.lists(st.integers(1, 4), min_size=1, max_size=6).map(lambda rows: sorted(rows)[::-1])


@settings(max_examples=40, deadline=None)
@given(rows_T=rows_of_time, layers=st.integers(1, 3), empty=st.integers(0, 2), seed=st.integers(0, 99))
def test_output_and_gradients_equal_torch(rows_T, layers, empty, seed):
    # Rows without any token (a caption that is all <pad>) come last.
    module, x_ME, h_LRD, c_LRD = make(layers, rows_T[0] + empty, sum(rows_T), seed)
    inputs = (x_ME, h_LRD, c_LRD, *module.parameters())
    hidden_MD = lstm(module, x_ME, rows_T, h_LRD, c_LRD)
    start = (h_LRD[:, : rows_T[0]].contiguous(), c_LRD[:, : rows_T[0]].contiguous())
    packed, _ = module(PackedSequence(x_ME, torch.tensor(rows_T)), start)
    torch.testing.assert_close(hidden_MD, packed.data, atol=1e-12, rtol=1e-10)
    weights_MD = torch.randn_like(hidden_MD)
    grads = torch.autograd.grad(hidden_MD, inputs, weights_MD)
    expected = torch.autograd.grad(packed.data, inputs, weights_MD)
    torch.testing.assert_close(grads, expected, atol=1e-12, rtol=1e-9)


def test_torchs_kernels_take_the_parameters_of_the_moment():
    rows_T = [3, 2, 2]
    module, x_ME, h_LRD, c_LRD = make(2, 4, sum(rows_T))
    for name, parameter in list(module.named_parameters()):  # as FSDP puts gathered weights into place
        module._parameters[name] = nn.Parameter(torch.randn_like(parameter))
    inputs = (x_ME, h_LRD, c_LRD, *module.parameters())
    found_MD = by_torch(module, x_ME, rows_T, h_LRD, c_LRD)
    expected_MD = lstm(module, x_ME, rows_T, h_LRD, c_LRD)
    torch.testing.assert_close(found_MD, expected_MD, atol=1e-12, rtol=1e-10)
    found, expected = (
        torch.autograd.grad(hidden_MD.square().sum(), inputs) for hidden_MD in (found_MD, expected_MD)
    )
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_bfloat16_products_are_near():
    rows_T = [4, 4, 3, 1]
    module, *inputs = (part.float() for part in make(2, 4, sum(rows_T)))
    inputs = [part.detach().requires_grad_() for part in inputs]
    everything = (*inputs, *module.parameters())
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            hidden_MD = lstm(module, inputs[0], rows_T, *inputs[1:])
        assert hidden_MD.dtype == torch.float32
        results.append([hidden_MD, *torch.autograd.grad(hidden_MD.square().sum(), everything)])
    torch.testing.assert_close(results[1], results[0], atol=0.05, rtol=0.05)
    assert not torch.equal(results[0][0], results[1][0])


def test_gradcheck():
    rows_T = [3, 2, 2]
    module, *inputs = make(2, 3, sum(rows_T))
    inputs += module.parameters()  # gradcheck changes them in place, where the module sees it
    assert torch.autograd.gradcheck(lambda x, h, c, *weights: lstm(module, x, rows_T, h, c), inputs)


def test_inputs_without_a_gradient_cost_none():
    rows_T = [2, 1]
    module, x_ME, h_LRD, c_LRD = make(1, 2, 3)
    lstm(module, x_ME.detach(), rows_T, h_LRD, c_LRD).sum().backward()
    without = [p.grad for p in module.parameters()]
    module.zero_grad()
    lstm(module, x_ME, rows_T, h_LRD, c_LRD).sum().backward()
    torch.testing.assert_close(without, [p.grad for p in module.parameters()])
    assert x_ME.grad.any()


@pytest.mark.parametrize("layers", [1, 3])
def test_dropout_between_layers_in_training_only(layers):
    module, x_ME, h_LRD, c_LRD = make(layers, 2, 3)
    expected_MD = lstm(module, x_ME, [2, 1], h_LRD, c_LRD)
    module.dropout = 0.9
    dropped_MD = lstm(module.train(), x_ME, [2, 1], h_LRD, c_LRD)
    assert torch.equal(dropped_MD, expected_MD) == (layers == 1)
    assert torch.equal(lstm(module.eval(), x_ME, [2, 1], h_LRD, c_LRD), expected_MD)


def test_rows_without_tokens_off_the_cpu():
    # The meta device takes the path of a GPU, shape checks included.
    module, x_ME, h_LRD, c_LRD = (part.to("meta") for part in make(2, 4, 5))
    assert lstm(module, x_ME, [3, 2], h_LRD, c_LRD).shape == (5, D)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cell_equals_a_single_step_of_torch(layers):
    module, x_RE, h_LRD, c_LRD = make(layers, 5, 5)
    _, expected = module(x_RE.unsqueeze(0), (h_LRD, c_LRD))
    after = cell(module, x_RE, list(zip(h_LRD, c_LRD, strict=True)))
    found = tuple(torch.stack(parts) for parts in zip(*after, strict=True))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_cell_drops_between_layers_in_training_only():
    module, x_RE, h_LRD, c_LRD = make(2, 5, 5)
    before = list(zip(h_LRD, c_LRD, strict=True))
    (first, _), (second, _) = cell(module, x_RE, before)
    module.dropout = 0.9
    (same, _), (dropped, _) = cell(module.train(), x_RE, before)
    assert torch.equal(same, first)
    assert not torch.equal(dropped, second)
    assert torch.equal(cell(module.eval(), x_RE, before)[1][0], second)
