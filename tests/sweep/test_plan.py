"""What a sweep's configuration asks for, and the parameters of its first trials."""

import io

import pytest
from helpers import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.plan import initial_trials, read_plan, require_grid

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
    base = OmegaConf.create({**STANDING, **(changed or {})})
    return initial_trials(SPACE, base, enqueue, grid, out), out.file.getvalue()


def test_baseline_comes_before_enqueued_trials():
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
def test_baseline_outside_of_the_space_is_skipped_with_a_message(changed, grid, why):
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
def test_enqueued_values_must_be_in_the_space(values, grid, why):
    with pytest.raises(UserError, match=rf"sweep\.enqueue: .*{why}"):
        first(enqueue=[values], grid=grid)


def test_grid_needs_a_finite_space():
    with pytest.raises(UserError, match="lr is continuous"):
        require_grid(SPACE)
    require_grid({**SPACE, "lr": FloatDistribution(0.1, 0.5, step=0.1)})


@pytest.fixture
def plan(monkeypatch):
    """A function from a command line's overrides to the plan, as the sweeper reads it."""
    monkeypatch.setenv("AUTOCAPTION_DATA", "/data")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()

        def read(*arguments):
            own = [one for one in arguments if one.startswith("sweep")]
            config = loader.load_configuration("train", ["sweep=default", *own], RunMode.MULTIRUN)
            with open_dict(config):
                config.hydra.job.config_name = "train"
            return read_plan(loader, config, list(arguments))

        yield read


def test_a_plan_tells_groups_from_values_and_varied_from_fixed(plan):
    found = plan("optimizer.lr=interval(0.1,0.2)", "model/decoder=lstm,attention", "search=greedy", "seed=4")
    assert set(found.space.distributions) == {"optimizer.lr", "model/decoder"}
    assert found.space.fixed == ["search=greedy", "seed=4"]
    assert sorted(found.groups) == ["model/decoder", "search"]
    assert (found.base.seed, found.base.search._target_.rpartition(".")[2]) == (4, "GreedySearch")
    assert (found.objective, found.direction) == (["val/bleu4"], ["maximize"])


def test_what_may_differ_between_commands_is_no_part_of_the_definition(plan):
    one, two, other = (
        plan("optimizer.lr=interval(0.1,0.2)", word).definition()
        for word in ("logger=csv", "data.num_workers=3", "data.batch_size=3")
    )
    assert one == two != other


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("seed=1",), "nothing to search"),
        (("optimizer.lrx=interval(0.1,0.2)",), r"no optimizer.lrx to search; \+optimizer.lrx"),
        (("optimizer.lr=interval(0.1,0.2)", "sweep.n_trials=0"), "sweep.n_trials=0"),
        (("optimizer.lr=interval(0.1,0.2)", "sweep.direction=up"), "sweep.direction=up"),
        (("optimizer.lr=interval(0.1,0.2)", "sweep.custom_space=no.such"), "sweep.custom_space=no.such"),
    ],
)
def test_mistakes_are_found_before_the_first_trial(plan, words, error):
    with pytest.raises(UserError, match=error):
        plan(*words)
