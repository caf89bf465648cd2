"""What a command line of eval.py asks to score."""

import json
import shutil
from pathlib import PurePath

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed
from hydra.core.override_parser.overrides_parser import OverridesParser

from autocaption import build
from autocaption.evaluation.names import short_names, slug
from autocaption.evaluation.rows import planned, rows_of
from autocaption.exits import one_line_errors

CHECKPOINT = "checkpoints/best.ckpt"
A, B = f"m/0/{CHECKPOINT}", f"m/1/{CHECKPOINT}"
KEYS = ("checkpoint", "compare", "ensemble", "searches", "runs", "captions", "human")
ONE, BOTH = f"checkpoint={A}", f"checkpoint=[{A},{B}]"


@pytest.fixture(name="home", scope="module")
def runs(tmp_path_factory):
    """A folder with two finished runs in m/, 0 and 1, of seeds 4 and 5; their models are untrained."""
    home = tmp_path_factory.mktemp("rows")
    _, captioner = build.from_config(composed(*TINY, "search=greedy"))
    for job, seed in enumerate((4, 5)):
        captioner.recipe["config"]["seed"] = seed
        (home / f"m/{job}/checkpoints").mkdir(parents=True)
        saved = {"recipe": captioner.recipe, "state_dict": captioner.state_dict(), "epoch": 0}
        torch.save(saved, home / f"m/{job}" / CHECKPOINT)
        record = {"layout": 1, "id": "x", "task": "train", "state": "finished", "attempts": [{"started": ""}]}
        (home / f"m/{job}/run.json").write_text(json.dumps(record))
    return home


@pytest.fixture(name="asked")
def ask(home, monkeypatch):
    """Plans a command line, as a launched process does."""
    monkeypatch.chdir(home)

    def planned_for(*words):
        parsed = OverridesParser.create().parse_overrides(list(words))
        own = [one for one in parsed if one.key_or_group in KEYS]  # set here, since Hydra takes its time
        others = [one.input_line for one in parsed if one not in own]
        config = composed(*others, "run_dir=e", name="eval").copy()
        for one in own:
            config[one.key_or_group] = one.value()
        return planned(config, words)

    return planned_for


def names(config):
    return [row.name for row in rows_of(config)]


def refused(asked, *words):
    with pytest.raises(SystemExit, match=r"^error: ") as ended:
        one_line_errors(lambda: asked(*words))
    (line,) = str(ended.value).splitlines()
    return line


def test_a_model_is_that_of_its_checkpoint_but_for_what_the_command_line_changes(asked, home):
    config = asked(ONE, "data.split=val")
    (row,) = rows_of(config)
    assert (row.checkpoints, row.folder, row.config) == ([f"{home}/{A}"], "", None)
    assert (config.model.decoder.hidden_dim, config.data.split) == (16, "val")
    assert "Greedy" in config.search._target_


def test_rows_of_models_searches_and_captions_in_order(asked):
    words = (BOTH, "compare=true", "ensemble=true", "searches=[greedy,beam]", "search.beam_size=7")
    config = asked(*words, "captions=x/theirs.json", "human=true")
    models = [f"{model}, {search}" for model in ("0", "1", "ensemble") for search in ("greedy", "beam")]
    assert names(config) == [*models, "theirs", "human"]
    rows = {row.name: row for row in rows_of(config)}
    assert rows["1, beam"].config["search"]["beam_size"] == 7
    assert "beam_size" not in rows["1, greedy"].config["search"]
    assert len(rows["ensemble, beam"].checkpoints) == 2
    assert rows["1, beam"].config["run_dir"] == "e/rows/1_beam"
    assert len({row.folder for row in rows.values()}) == 8
    assert {row.config["trainer"]["precision"] for row in rows.values()} == {"32-true"}


def test_every_row_has_the_split_and_the_metrics_of_the_first(asked):
    first, second = (
        row.config for row in rows_of(asked(BOTH, "compare=true", "data.split=val", "metrics=bleu"))
    )
    assert first["metrics"] == second["metrics"]
    assert list(first["metrics"]["image_metrics"]) == ["bleu"]
    assert (first["data"]["split"], second["data"]["split"]) == ("val", "val")


def test_other_metrics_than_a_model_was_trained_with_are_said(asked, home, tmp_path, caplog):
    saved = torch.load(home / B, weights_only=True)
    saved["recipe"]["config"]["metrics"]["image_metrics"] = {}
    torch.save(saved, tmp_path / "other.ckpt")
    config = asked(f"checkpoint=[{A},{tmp_path}/other.ckpt]", "compare=true")
    first, second = (row.config for row in rows_of(config))
    assert first["metrics"] == second["metrics"]
    assert "by the data and metrics of" in caplog.text
    assert "metrics.image_metrics" in caplog.text


@pytest.mark.parametrize("glob", ["m", "m/*", "[m/0,m/1]"])
def test_seeds_are_the_runs_of_a_multirun_or_a_glob(asked, glob):
    rows = rows_of(asked(f"runs={glob}"))
    assert [(row.name, row.group) for row in rows] == [("seed 4", "seeds"), ("seed 5", "seeds")]


def test_experiments_with_several_seeds_have_names(asked):
    rows = [(row.name, row.group) for row in rows_of(asked("runs={one: m, other: 'm/*'}", "ensemble=true"))]
    assert rows == [
        (f"{name}, {what}", None if what == "ensemble" else name)
        for name in ("one", "other")
        for what in ("seed 4", "seed 5", "ensemble")
    ]
    several = rows_of(asked("runs={one: m}", "searches=[greedy,sample]"))
    assert [(row.name, row.group) for row in several[:2]] == [
        (f"one, seed 4, {search}", f"one, {search}") for search in ("greedy", "sample")
    ]


def test_rows_can_be_named(asked):
    assert names(asked(f"checkpoint={{small: {A}, large: {B}}}", "compare=true")) == ["small", "large"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/r/x/checkpoints/best.ckpt"], ["best"]),
        (["/r/x/checkpoints/best.ckpt", "/r/y/checkpoints/best.ckpt"], ["x", "y"]),
        (["/r/x/checkpoints/best.ckpt", "/r/x/checkpoints/last.ckpt"], ["best", "last"]),
        (["/r/x/1/best.ckpt", "/r/y/2/best.ckpt"], ["x/1", "y/2"]),
        (["/r/a.json", "/b.json"], ["r/a", "b"]),
        (["/a/a.ckpt", "/a/a/a.ckpt"], ["a", "a/a"]),
    ],
)
def test_names_are_what_tells_paths_apart(paths, expected):
    assert short_names([PurePath(path) for path in paths]) == expected


def test_folders_of_rows_differ():
    rows = ["a, greedy", "a/greedy", "Seed 1", "..", "\u72ac", "lr+=1"]
    expected = ["a_greedy_1", "a_greedy_2", "seed_1", "4", "\u72ac", "lr_1"]
    assert [slug(i, rows) for i in range(6)] == expected
    taken = ["x!", "x?", "x_1", "..", "4"]
    assert [slug(i, taken) for i in range(5)] == ["x_1_", "x_2", "x_1", "4_", "4"]


def test_a_key_that_only_the_checkpoint_may_have_takes_two_plusses(monkeypatch, asked):
    monkeypatch.setattr("sys.argv", ["eval.py", ONE, "search.temperature=2"])
    assert "write ++search.temperature=2; " in refused(asked, ONE, "search.temperature=2")
    rows = rows_of(asked(ONE, "searches=[greedy,sample]", "++search.temperature=2"))
    assert [row.config["search"].get("temperature") for row in rows] == [None, 2]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([BOTH], ("ensemble=true", "compare=true")),
        ([ONE, "ensemble=true"], ("ensemble=true", "several")),
        ([ONE, "compare=3"], ("compare=3", "true or false")),
        ([f"checkpoint=[{A},{A}]", "compare=true"], ("twice",)),
        ([f"checkpoint={{human: {A}}}", "human=true"], ("'human'",)),
        ([ONE, "searches=[greedy,grredy]"], ("grredy",)),
        ([ONE, "searches=[base]"], ("search=base",)),
        ([ONE, "searches=[greedy,greedy]"], ("each once",)),
        ([ONE, "searches=[]"], ("searches=[]",)),
        ([ONE, "searches=[greedy]", "search=beam"], ("searches",)),
        ([ONE, "searches=[greedy]", "search.beam_size=2"], ("search.beam_size=2",)),
        (["runs=m/0"], ("at least two",)),
        (["runs={a: nowhere*}"], ("runs.a=", "nowhere*", "at least two")),
        (["captions=[]"], ("captions=[]",)),
        ([ONE, "captions={}"], ("captions={} names none",)),
        ([ONE, "runs={}"], ("runs={} names no run folders",)),
        ([], ("nothing to score", "checkpoint=PATH")),
        (["ensemble=true"], ("checkpoint=[A,B]",)),
        (["runs=[]"], ("runs=[]: 0 run folders",)),
        ([ONE, "resume=m/0"], ("resume=m/0 is of train.py",)),
        ([ONE, f"init_from={A}"], ("init_from=", "is of train.py")),
    ],
)
def test_a_mistake_is_one_line(asked, words, named):
    line = refused(asked, *words)
    assert all(word in line for word in named), line


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"state": "preempted"}, "is preempted"),
        ({"task": "eval"}, "is an evaluation"),
        ({"state": "running"}, "is interrupted"),  # it says so, and no process holds its lock
    ],
)
def test_a_run_that_is_no_finished_training_is_named(asked, home, tmp_path, changes, named):
    shutil.copytree(home / "m", tmp_path / "m")
    record = json.loads((tmp_path / "m/1/run.json").read_text())
    (tmp_path / "m/1/run.json").write_text(json.dumps(record | changes))
    assert f"{tmp_path}/m/1 {named}" in refused(asked, f"runs={tmp_path}/m/*")


def test_runs_that_differ_in_more_than_their_seed_are_said(asked, home, tmp_path, caplog):
    asked("runs=m")
    assert caplog.text == ""
    shutil.copytree(home / "m", tmp_path / "m")
    saved = torch.load(tmp_path / "m/1" / CHECKPOINT, weights_only=True)
    saved["recipe"]["config"]["optimizer"]["lr"] = 7
    torch.save(saved, tmp_path / "m/1" / CHECKPOINT)
    asked(f"runs={tmp_path}/m")
    assert "m/1 differ in more than their seed: optimizer.lr" in caplog.text


def test_members_of_other_words_are_refused_before_any_is_scored(asked, home, tmp_path):
    shutil.copytree(home / "m", tmp_path / "m")
    other = tmp_path / "m/1" / CHECKPOINT
    saved = torch.load(other, weights_only=True)
    saved["recipe"]["vocabulary"] = saved["recipe"]["vocabulary"][:-1]
    torch.save(saved, other)
    words = f"checkpoint=[{tmp_path}/m/0/{CHECKPOINT},{other}]"
    assert names(asked(words, "compare=true")) == ["0", "1"]
    assert f"{other} has another vocabulary" in refused(asked, words, "compare=true", "ensemble=true")
