"""Parameter groups and the learning-rate schedule."""

import math

import pytest
import torch
from torch import nn

from autocaption.callbacks.learning_rate import lr_name
from autocaption.errors import UserError
from autocaption.models.optim import ENDLESS_WARMUP, optimizer_of, warmup_cosine
from autocaption.report.tables import parameter_count


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


LAYERS = {"encoder.0.weight": 0, "encoder.0.bias": 0, "encoder.1.weight": 3, "encoder.1.bias": 3}


def test_each_layer_has_a_share_of_the_next_one_s_rate(model):
    optimizer = optimizer_of(model, adamw, {"encoder": 0.5}, 0.8, LAYERS)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert found == {
        **{name: pytest.approx(0.1 * 0.5 * 0.8 ** (3 - layer)) for name, layer in LAYERS.items()},
        **dict.fromkeys(("decoder.0.weight", "decoder.1.weight", "decoder.1.bias"), 0.1),
    }
    logged = {lr_name(group["name"]): group["lr"] for group in optimizer.param_groups}
    assert logged == {"lr": 0.1, "lr/encoder": pytest.approx(0.05)}


def test_layers_without_a_rate_of_their_own_are_logged_as_the_encoder_s(model):
    optimizer = optimizer_of(model, adamw, {}, 0.8, LAYERS)
    assert {lr_name(group["name"]) for group in optimizer.param_groups} == {"lr", "lr/encoder"}


def test_without_decay_layers_are_no_groups(model):
    plain, layered = (optimizer_of(model, adamw, {"encoder": 0.1}, 1.0, found) for found in ({}, LAYERS))
    names = [[group["name"] for group in one.param_groups] for one in (plain, layered)]
    assert names[0] == names[1]
    assert len(names[0]) == 4


@pytest.mark.parametrize(("decay", "layers"), [(0, LAYERS), (1.1, LAYERS), ("x", LAYERS), (0.9, {})])
def test_a_decay_that_cannot_be_is_refused(model, decay, layers):
    with pytest.raises(UserError, match=rf"layer_decay={decay}"):
        optimizer_of(model, adamw, {}, decay, layers)


def test_without_gradients_only_matrices_shrink(model):
    optimizer = optimizer_of(model, adamw, {})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, p in model.named_parameters():
        shrunk = p.ndim >= 2 and not name.startswith("encoder.2")
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if shrunk else 1.0))


def test_missing_file_is_named(model):
    with pytest.raises(UserError, match=r"learning_rates\.encode "):
        optimizer_of(model, adamw, {"encode": 0.1})


def test_a_negative_rate_of_a_part_is_refused(model):
    with pytest.raises(UserError, match=r"learning_rates\.encoder=-1"):
        optimizer_of(model, adamw, {"encoder": -1})


def test_parameters_are_counted_by_part(model):
    assert parameter_count(model, depth=1) == {"encoder": (126, 120), "decoder": (45, 45)}
    assert parameter_count(model)["encoder.2"] == (6, 0)


PEAK = 0.4


def rates(steps, warmup, final, taken=None):
    """The learning rate of each step, and those after the last."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = warmup_cosine(optimizer, steps, warmup, final)
    found = []
    for _ in range(taken or steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_known_points():
    found = rates(100, warmup=0.2, final=0.1, taken=130)
    assert found[0] == pytest.approx(PEAK / 20)
    assert found[9] == pytest.approx(PEAK / 2)
    assert found[19] == found[20] == pytest.approx(PEAK)
    assert found[40] == pytest.approx(PEAK * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2))
    assert found[60] == pytest.approx(PEAK * (0.1 + 0.9 / 2))
    assert found[100:] == pytest.approx([PEAK * 0.1] * 30)


def test_without_a_last_step_the_rate_rises_and_stays():
    found = rates(math.inf, warmup=0.2, final=0.1, taken=ENDLESS_WARMUP + 100)
    assert found[0] == pytest.approx(PEAK / ENDLESS_WARMUP)
    assert found[ENDLESS_WARMUP // 2 - 1] == pytest.approx(PEAK / 2)
    assert found[ENDLESS_WARMUP - 1 :] == [PEAK] * 101
    assert rates(math.inf, warmup=0, final=0.1, taken=3) == [PEAK] * 3


@pytest.mark.parametrize(("key", "value"), [("warmup", -0.1), ("warmup", 2), ("final", -1), ("final", None)])
def test_shares_out_of_range_are_refused(key, value):
    with pytest.raises(UserError, match=f"schedule.{key}="):
        rates(10, **{"warmup": 0.1, "final": 0.1, key: value})


def test_rises_linearly_then_falls():
    found = rates(50, warmup=0.1, final=0.0)
    assert found[:5] == pytest.approx([PEAK * k / 5 for k in range(1, 6)])
    assert found[5:] == sorted(found[5:], reverse=True)
    assert 0 < found[-1] < 0.01 * PEAK


def test_cosine_equals_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=45, eta_min=0.05 * PEAK)
    expected = []
    for _ in range(45):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert rates(50, warmup=0.1, final=0.05)[5:] == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (3, 0.0), (4, 1.0)])
def test_shortest_runs_have_a_positive_rate(steps, warmup):
    found = rates(steps, warmup, final=0.01, taken=steps + 2)
    assert all(0.01 * PEAK <= rate <= PEAK * (1 + 1e-9) for rate in found)
    assert max(found) == pytest.approx(PEAK)
    assert found[-1] == pytest.approx(0.01 * PEAK)


def test_every_group_keeps_its_own_peak():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups)
    schedule = warmup_cosine(optimizer, 10, 0.4, 0.0)
    assert schedule.get_last_lr() == pytest.approx([0.25, 0.025])
