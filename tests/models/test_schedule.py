import math

import pytest
import torch

from autocaption.models.schedule import warmup_cosine

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


def test_climbs_evenly_then_only_falls():
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
def test_the_smallest_runs_have_a_rate(steps, warmup):
    found = rates(steps, warmup, final=0.01, taken=steps + 2)
    assert all(0.01 * PEAK <= rate <= PEAK * (1 + 1e-9) for rate in found)
    assert max(found) == pytest.approx(PEAK)
    assert found[-1] == pytest.approx(0.01 * PEAK)


def test_every_group_keeps_its_own_peak():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups)
    schedule = warmup_cosine(optimizer, 10, 0.4, 0.0)
    assert schedule.get_last_lr() == pytest.approx([0.25, 0.025])
