import pytest
import torch
from torch import nn

from autocaption.errors import UserError
from autocaption.models.parameter_count import parameter_count
from autocaption.models.parameter_groups import optimizer_of


@pytest.fixture(name="model")
def two_parts():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    encoder[2].requires_grad_(False)
    return nn.ModuleDict({"encoder": encoder, "decoder": nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))})


def adamw(groups):
    return torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)


def test_each_parameter_gets_its_rate_and_decay(model):
    rates = {"encoder": 0.1, "encoder.1": 0.01}
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer_of(model, adamw, rates).param_groups
        for parameter in group["params"]
    }
    expected = {
        "encoder.0.weight": (0.01, 0.5),
        "encoder.0.bias": (0.01, 0.0),
        "encoder.1.weight": (0.001, 0.0),
        "encoder.1.bias": (0.001, 0.0),
        "decoder.0.weight": (0.1, 0.5),
        "decoder.1.weight": (0.1, 0.5),
        "decoder.1.bias": (0.1, 0.0),
    }
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert len(found) == len(expected)  # what is frozen is in no group
    for name, (rate, decay) in expected.items():
        assert found[names[name]] == (pytest.approx(rate), decay), name


def test_without_gradients_only_matrices_shrink(model):
    optimizer = optimizer_of(model, adamw, {})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, p in model.named_parameters():
        shrunk = p.ndim >= 2 and not name.startswith("encoder.2")
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if shrunk else 1.0))


def test_a_part_that_is_not_there(model):
    with pytest.raises(UserError, match=r"learning_rates\.encode "):
        optimizer_of(model, adamw, {"encode": 0.1})


def test_parameters_are_counted_by_part(model):
    assert parameter_count(model, depth=1) == {"encoder": (126, 120), "decoder": (45, 45)}
    assert parameter_count(model)["encoder.2"] == (6, 0)
