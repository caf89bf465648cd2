"""What a sweep's command asks for: its space, baseline and definition, its initial trials, its mistakes."""

import io

import pytest
from helpers import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.initial_trials import initial_trials, require_grid
from autocaption.sweep.plan import read_plan

SPACE = {
    "lr": FloatDistribution(1e-4, 1e-2),
    "layers": IntDistribution(1, 3),
    "model/decoder": CategoricalDistribution(["lstm", "transformer"]),
}
CONFIG = {
    "lr": 0.1,
    "layers": 2,
    "hydra": {"runtime": {"choices": {"model/decoder": "lstm"}}},
}
OTHER_DECODER = {"hydra": {"runtime": {"choices": {"model/decoder": "gru"}}}}
BASELINE = {"lr": 0.1, "layers": 2, "model/decoder": "lstm"}  # lr is outside of the interval


def plan(*overrides, sweep="sweep=default"):
    """The plan that `train.py -m sweep=default OVERRIDES` leads to."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("train", [sweep, *overrides], RunMode.MULTIRUN)
        config.hydra.job.config_name = "train"
        return read_plan(loader, config, [sweep, *overrides])


@pytest.mark.parametrize(
    "word",
    [
        *("trainer.max_epochs=0", "trainer.max_steps=0", "trainer.limit_val_batches=0"),
        *("trainer.check_val_every_n_epoch=11", "trainer.max_epochs=nonsense"),
    ],
)
def test_trials_that_would_never_be_validated_are_refused(word):
    with pytest.raises(UserError, match=word):
        plan("optimizer.lr=interval(0.1,1.0)", word)
    plan("optimizer.lr=interval(0.1,1.0)", word, "trainer.max_epochs=range(12,14)")  # a trial finds it itself


def initial(changes=None, enqueue=(), grid=False):
    """The initial trials, and the message about them."""
    console = Console(file=io.StringIO(), width=500)
    config = OmegaConf.create({**CONFIG, **(changes or {})})
    return initial_trials(SPACE, config, enqueue, grid, console), console.file.getvalue()


def test_a_plan_separates_the_search_space_from_the_base_configuration():
    found = plan(
        *("optimizer.lr=interval(0.1,1.0)", "model/decoder=lstm,transformer", "data.batch_size=7"),
        *("sweep.n_trials=3", "logger=csv", "+trainer.benchmark=true"),
    )
    assert found.space.distributions == {
        "optimizer.lr": FloatDistribution(0.1, 1.0),
        "model/decoder": CategoricalDistribution(["lstm", "transformer"]),
    }
    assert found.space.fixed == ["data.batch_size=7", "logger=csv", "+trainer.benchmark=true"]
    assert found.groups == ["logger", "model/decoder"]
    base = found.base_config
    assert base.data.batch_size == 7
    assert base.trainer.benchmark is True
    assert base.test is False  # sweep.overrides
    assert base.optimizer.lr == 0.001
    assert base.hydra.runtime.choices["model/decoder"] == "lstm"


def test_the_definition_leaves_out_what_may_differ():
    search = "optimizer.lr=interval(0.1,1.0)"
    one = plan(search, "data.batch_size=7").definition()
    assert one["fixed"] == ["data.batch_size=7"]
    free = ["runs_dir=elsewhere", "logger=csv", "data.num_workers=1", "trainer.devices=1", "sweep.n_trials=9"]
    assert plan(search, "data.batch_size=7", *free).definition() == one
    assert plan(search, "data.batch_size=8").definition()["fixed"] == ["data.batch_size=8"]
    assert plan("optimizer.lr=interval(0.1,2.0)").definition()["space"] != one["space"]


def test_a_new_key_and_the_keys_of_a_searched_group_are_accepted():
    found = plan("+trainer.benchmark=true,false", "data.batch_size=range(1,4)")
    assert set(found.space.distributions) == {"+trainer.benchmark", "data.batch_size"}
    plan("model/decoder=lstm,transformer", "model.decoder.heads=range(1,4)")  # the transformer has heads


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["optimizer.lrx=interval(0.1,1.0)"], r"no optimizer\.lrx to search; \+optimizer\.lrx"),
        (["+data.token=choice(a,b)"], r"\+data\.token is a secret"),
        (["model.decoder.heads=range(1,4)"], r"no model\.decoder\.heads"),
        ([], "nothing to search"),
        (["optimizer.lr=interval(0.1,1.0)", "sweep.n_trials=0"], r"sweep\.n_trials=0"),
        (["optimizer.lr=interval(0.1,1.0)", "sweep.direction=upwards"], "maximize or minimize"),
        (["optimizer.lr=interval(0.1,1.0)", "sweep.study_name=../a"], r"sweep\.study_name=\.\./a: take"),
        (["optimizer.lr=interval(0.1,1.0)", "sweep.study_name=a/b"], r"sweep\.study_name=a/b: take"),
        (["optimizer.lr=interval(0.1,1.0)", "sweep.study_name='a?b'"], r"sweep\.study_name=a\?b: take"),
        (
            ["optimizer.lr=interval(0.1,1.0)", "sweep.objective=val/cidr"],
            r"sweep\.objective=val/cidr .* val/cider",
        ),
        (["sweep.custom_space=no.such"], r"sweep\.custom_space=no\.such can't be imported"),
    ],
)
def test_mistakes_are_found_before_the_first_trial(overrides, hint):
    with pytest.raises(UserError, match=hint):
        plan(*overrides)


def test_where_metrics_are_searched_the_trial_checks_its_objective():
    assert plan("metrics=coco,bleu", "metrics=choice(bleu,coco)", "sweep.objective=val/x").objective == [
        "val/x"
    ]


def test_the_multi_objective_sweep_has_a_direction_for_each_metric():
    found = plan(sweep="sweep=show_and_tell_multi")
    assert (found.objective, found.direction) == (["val/bleu4", "val/perplexity"], ["maximize", "minimize"])


def test_the_baseline_comes_before_enqueued_trials():
    assert initial(enqueue=[{"layers": 3}]) == ([BASELINE, {"layers": 3}], "")
    assert initial_trials(SPACE, None, [{"layers": 3}], False, Console()) == [{"layers": 3}]


@pytest.mark.parametrize(
    ("changes", "grid", "reason"),
    [
        ({"lr": None}, False, "lr=null is not a number"),
        (OTHER_DECODER, False, "model/decoder=gru is not among lstm, transformer"),
        ({}, True, "lr=0.1 is not on the grid"),
    ],
)
def test_a_baseline_outside_of_the_space_is_left_out_with_a_message(changes, grid, reason):
    trials, message = initial(changes, [{"layers": 3}], grid)
    assert trials == [{"layers": 3}]
    assert f"no baseline among the trials: {reason}" in message


@pytest.mark.parametrize(
    ("params", "grid", "reason"),
    [
        ({"depth": 1}, False, "depth is not in the search space"),
        ({"layers": "many"}, False, "layers=many is not a number"),
        ({"model/decoder": "gru"}, False, "gru is not among"),
        ({"layers": 4}, True, "layers=4 is not on the grid"),
    ],
)
def test_an_enqueued_trial_outside_of_the_space_is_refused(params, grid, reason):
    with pytest.raises(UserError, match=rf"sweep\.enqueue: .*{reason}"):
        initial(enqueue=[params], grid=grid)


def test_a_grid_needs_finitely_many_values():
    with pytest.raises(UserError, match="lr has infinitely many values"):
        require_grid(SPACE)
    require_grid({**SPACE, "lr": FloatDistribution(0.1, 0.5, step=0.1)})
