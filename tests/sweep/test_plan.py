import io

import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.plan import initial_trials, require_grid

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-2),
    "layers": IntDistribution(1, 3),
    "model/decoder": CategoricalDistribution(["lstm", "transformer"]),
}
STANDING = {
    "lr": 0.1,
    "layers": 2,
    "hydra": {"runtime": {"choices": {"model/decoder": "lstm"}}},
}
# Its learning rate is outside of the interval, and tried all the same.
BASELINE = {"lr": 0.1, "layers": 2, "model/decoder": "lstm"}


def first(changed=None, enqueue=(), grid=False):
    out = Console(file=io.StringIO(), width=500)
    standing = OmegaConf.create({**STANDING, **(changed or {})})
    return initial_trials(SPACE, standing, enqueue, grid, out), out.file.getvalue()


def test_the_configuration_as_it_stands_comes_before_what_is_enqueued():
    assert first(enqueue=[{"layers": 3}]) == ([BASELINE, {"layers": 3}], "")
    assert initial_trials(SPACE, None, [{"layers": 3}], False, Console()) == [{"layers": 3}]


@pytest.mark.parametrize(
    ("changed", "grid", "why"),
    [
        ({"lr": None}, False, "lr=null is not a number"),
        (
            {"hydra": {"runtime": {"choices": {"model/decoder": "gru"}}}},
            False,
            "gru is not among lstm, trans",
        ),
        ({}, True, "lr=0.1 is not on the grid"),
    ],
)
def test_what_stands_outside_of_the_space_is_left_out_and_said(changed, grid, why):
    found, said = first(changed, [{"layers": 3}], grid)
    assert found == [{"layers": 3}]
    assert why in said


@pytest.mark.parametrize(
    ("values", "grid", "why"),
    [
        ({"depth": 1}, False, "depth is not in the search space"),
        ({"layers": "many"}, False, "layers=many is not a number"),
        ({"model/decoder": "gru"}, False, "gru is not among"),
        ({"layers": 4}, True, "layers=4 is not on the grid"),
    ],
)
def test_what_is_enqueued_has_to_be_of_the_space(values, grid, why):
    with pytest.raises(UserError, match=rf"sweep\.enqueue: .*{why}"):
        first(enqueue=[values], grid=grid)


def test_a_grid_needs_an_end():
    with pytest.raises(UserError, match="lr has no end of values"):
        require_grid(SPACE)
    require_grid({**SPACE, "lr": FloatDistribution(0.1, 0.5, step=0.1)})
