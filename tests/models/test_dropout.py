"""Dropout: probability, scale, independence, seed."""

import pytest
import torch

from autocaption.errors import UserError
from autocaption.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_drops_with_probability_p_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(400, 501, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    assert y.dtype == dtype
    dropped = (y == 0).float()
    assert dropped.mean() == pytest.approx(p, abs=0.005)
    assert y.detach().float().mean() == pytest.approx(1, abs=0.03)
    assert (dropped.mean(0) > 0).all()  # no column, and no row, is spared
    assert (dropped.mean(1) > 0).all()
    y.float().sum().backward()
    assert torch.equal(x.grad == 0, y == 0)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(100_000)) == 0).float()
    for distance in (1, 2, 7, 8, 16):
        both = dropped[:-distance] * dropped[distance:]
        assert both.mean() == pytest.approx(0.25, abs=0.01)


def test_masks_depend_on_the_seed_only():
    def draw():
        torch.manual_seed(3)
        return Dropout(0.5)(torch.ones(99))

    assert torch.equal(draw(), draw())


def test_identity_in_evaluation_and_for_p_0():
    x = torch.randn(5, 7)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_probability_out_of_range_is_refused(p):
    with pytest.raises(UserError, match="dropout"):
        Dropout(p)
