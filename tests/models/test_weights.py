"""State dicts from files: names of wrapped modules, and the first tensor that doesn't fit."""

import pytest
import torch
from torch import nn

from autocaption.models.weights import load_weights, unwrapped


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Part(nn.Module):
    """A part that is itself called `module`."""

    def __init__(self):
        super().__init__()
        self.module, self.other = nn.Linear(2, 2), nn.Linear(2, 2)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.compile, lambda m: nn.DataParallel(torch.compile(m))]
)
def test_weights_of_a_wrapped_module(wrap):
    saved, fresh = net(), net()
    nn.init.ones_(saved[0].weight)
    load_weights(fresh, wrap(saved).state_dict())
    assert torch.equal(fresh[0].weight, torch.ones(4, 3))


def test_weights_of_a_module_with_a_compiled_part():
    saved = net()
    saved[2] = torch.compile(saved[2])
    assert unwrapped(saved.state_dict()).keys() == net().state_dict().keys()


def test_a_part_that_is_called_module_keeps_its_name():
    state = Part().state_dict()
    assert unwrapped(state).keys() == state.keys()
    assert unwrapped({}) == {}


MISFITS = {
    "shape": ({"0.bias": torch.zeros(5, 6)}, r"^0\.bias is 5x6, and the model's is 4$"),
    "single number": ({"1.num_batches_tracked": torch.zeros(3)}, "is 3, and the model's is a single number"),
    "first of two": ({"2.bias": torch.zeros(9), "0.weight": torch.zeros(9)}, r"^0\.weight is 9, "),
    "no tensor": ({"0.bias": "x"}, r"^0\.bias is str, "),
    "surplus": ({"3.bias": torch.zeros(1)}, r"^3\.bias 1 has no place in the model$"),
}


@pytest.mark.parametrize(("changes", "said"), MISFITS.values(), ids=MISFITS)
def test_the_first_misfit_is_named_with_both_shapes(changes, said):
    with pytest.raises(ValueError, match=said):
        load_weights(net(), {**net().state_dict(), **changes})


def test_a_missing_tensor_is_named():
    state = net().state_dict()
    del state["2.weight"]
    with pytest.raises(ValueError, match=r"^2\.weight 2x4 is missing$"):
        load_weights(net(), state)
