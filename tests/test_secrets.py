"""A secret of the command line in a run that is interrupted, moved and resumed without it."""

import shutil

import pytest
from helpers.commands import TINY, only_run, read
from helpers.interruptions import Given
from helpers.scripts import run_here

from autocaption.runs.kept_secrets import FILE

SECRET, URL = "hunter2", "x://me:hunter2@h"
WORDS = ("train.py", *TINY, "trainer=cpu", "logger=csv", "callbacks.last.every_n_steps=1", "seed=3")
GIVEN = (f"+keys.password={SECRET}", f"+keys.url={URL}")
AGAIN = (f"++keys.password={SECRET}", f"++keys.url={URL}")
USED = "+callbacks.used={_target_: helpers.interruptions.Given, a: '${keys.password}', b: '${keys.url}'}"
KICK, NO_KICK = "+callbacks.kick={_target_: helpers.interruptions.Kick, moment: 1}", "++callbacks.kick=null"


def holding(folder):
    """The files that hold the secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if SECRET.encode() in path.read_bytes()]


def test_an_interrupted_run_resumes_with_its_secrets_and_then_forgets_them(tmp_path):
    begun = run_here(*WORDS, *GIVEN, USED, KICK, cwd=tmp_path)
    assert begun.returncode == 143, begun.stderr
    assert holding(tmp_path) == [FILE]
    assert (only_run(tmp_path) / FILE).stat().st_mode & 0o777 == 0o600
    moved = only_run(tmp_path).rename(tmp_path / "runs/moved")
    copy = tmp_path / "copy"  # as another user gets it, who can't read the file
    shutil.copytree(moved, copy, ignore=shutil.ignore_patterns(FILE))

    resumed = run_here("train.py", "resume=last", NO_KICK, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert Given.seen == [(SECRET, URL)] * 2
    assert read(moved / "run.json")["state"] == "finished"
    assert holding(tmp_path) == []
    assert SECRET not in begun.stdout + begun.stderr + resumed.stdout + resumed.stderr

    mistaken = run_here("train.py", f"resume={moved}", NO_KICK, *AGAIN, "optimizer.lr=-1", cwd=tmp_path)
    assert (mistaken.returncode, holding(tmp_path)) == (1, [])  # a finished run has none, also now

    refused = run_here("train.py", f"resume={copy}", NO_KICK, cwd=tmp_path)
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("error: keys.password is a secret")
    assert "++keys.password=VALUE" in line
    assert "oc.env" in line


@pytest.mark.parametrize(("step", "kept"), [(1, []), (2, [FILE])], ids=["before", "after"])
def test_a_run_that_is_killed_keeps_its_secrets_where_it_left_a_checkpoint(tmp_path, monkeypatch, step, kept):
    monkeypatch.setattr("autocaption.recording.forget", lambda folder: None)  # nothing runs after a kill
    bug = f"+callbacks.bug={{_target_: helpers.interruptions.OneRank, how: bug, rank: 0, step: {step}}}"
    assert run_here(*WORDS, *GIVEN, bug, cwd=tmp_path).returncode == 1
    assert read(only_run(tmp_path) / "run.json")["state"] == "failed"
    assert holding(tmp_path) == kept
