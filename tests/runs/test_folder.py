"""Run folders, and what resume= means."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autocaption.errors import UserError
from autocaption.runs.folder import checkpoint_to_resume, run_folder


def make_run(folder, age, name="last"):
    """A run's checkpoint, written `age` seconds ago."""
    checkpoint = folder / "checkpoints" / f"{name}.ckpt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.touch()
    os.utime(checkpoint, (2e9 - age, 2e9 - age))
    return checkpoint


def test_a_process_has_one_new_run_folder():
    folder = Path(run_folder("runs", None))
    assert str(folder) == run_folder("runs", None)
    assert folder.parent == Path("runs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{6}", folder.name)
    assert not folder.exists()


def test_processes_get_different_names_without_torch():
    code = "import sys; from autocaption.runs import folder; "
    code += "print(folder.new_run_name(), 'torch' in sys.modules)"
    made = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(2)]
    assert made[0][0] != made[1][0]
    assert [words[1] for words in made] == ["False", "False"]


def test_resume_by_checkpoint(tmp_path):
    make_run(tmp_path / "a", age=5)
    best = make_run(tmp_path / "a", age=9, name="best")
    assert checkpoint_to_resume("elsewhere", str(best)) == best
    assert run_folder("elsewhere", str(best)) == str(tmp_path / "a")


def test_resume_by_folder(tmp_path):
    last = make_run(tmp_path / "a", age=5)
    make_run(tmp_path / "b", age=0)
    assert checkpoint_to_resume(str(tmp_path), str(tmp_path / "a")) == last
    assert run_folder(str(tmp_path), str(tmp_path / "a")) == str(tmp_path / "a")


def test_relative_and_home_paths_become_absolute(tmp_path, monkeypatch):
    last = make_run(tmp_path / "runs" / "a", age=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for resume in ("runs/a", "~/runs/a", "runs/a/checkpoints/last.ckpt", "last"):
        assert checkpoint_to_resume("runs", resume) == last
        assert run_folder("runs", resume) == str(tmp_path / "runs" / "a")


def test_last_is_the_newest_checkpoint_at_any_depth(tmp_path):
    make_run(tmp_path / "2030-01-01", age=50)
    newest = make_run(tmp_path / "multirun" / "2020-01-01" / "3", age=10)
    make_run(tmp_path / "2029-01-01", age=20)
    make_run(tmp_path / "2029-01-01", age=0, name="best")  # newer, but not what a run goes on from
    assert checkpoint_to_resume(str(tmp_path), "last") == newest
    assert run_folder(str(tmp_path), "last") == str(newest.parents[1])


@pytest.mark.parametrize("runs", ["", "nowhere"])
def test_nothing_to_resume(tmp_path, runs):
    with pytest.raises(UserError, match=f"no checkpoint under {tmp_path / runs}; .*resume=PATH"):
        checkpoint_to_resume(str(tmp_path / runs), "last")


@pytest.mark.parametrize("call", [run_folder, checkpoint_to_resume])
def test_missing_checkpoint_is_named(tmp_path, call):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"checkpoint not found: resume={tmp_path}/x.ckpt"):
        call(str(tmp_path), str(tmp_path / "x.ckpt"))
    with pytest.raises(UserError, match=f"resume={tmp_path}/empty/checkpoints/last.ckpt"):
        call(str(tmp_path), str(tmp_path / "empty"))
