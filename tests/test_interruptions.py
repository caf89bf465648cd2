"""The commands treated as a cluster treats them: killed, signalled, started twice, moved."""

import json
import os
import random
import shutil
import signal

import pytest
from helpers import ROOT
from helpers.commands import TINY, only_run, read, run, start
from helpers.interruptions import assert_same
from helpers.sweeps import wait_for

from autocaption.loggers.sync import join
from autocaption.loggers.wandb_log import read_log

WORDS = [*TINY, "logger=csv", "trainer.log_every_n_steps=1", "model.decoder.dropout=0.3"]
WORDS += [
    "data/augment=crop_and_flip",
    "data.source.train=48",
    "trainer.max_epochs=4",
    "callbacks.last.every_n_steps=2",
]


def rows(cwd):
    """Rows of the CSV so far."""
    return sum(file.read_bytes().count(b"\n") for file in cwd.glob("runs/*/csv/metrics.csv"))


def is_finished(cwd):
    return any(read(file)["state"] == "finished" for file in cwd.glob("runs/*/run.json"))


def kill_at(process, cwd, count, writing):
    """Kill a run once its CSV has `count` rows, and if `writing`, amid the next checkpoint's writing."""

    def reached():
        if process.poll() is not None:
            return True
        # A write is short and may be missed: a few rows later any moment will do.
        moment = not writing or any(cwd.glob("runs/*/checkpoints/.*.ckpt.*")) or rows(cwd) >= count + 4
        return any(cwd.glob("runs/*/run.json")) and rows(cwd) >= count and moment

    wait_for(reached)
    if process.poll() is None:
        process.kill_all()


def survive(cwd, whole, words, seed, kills):
    """Start, kill at random moments, resume, until the run has finished; returns how often it was killed."""
    rng, killed = random.Random(seed), 0
    total = (whole / "csv/metrics.csv").read_text().count("\n")
    while True:
        folder = only_run(cwd) if (cwd / "runs").exists() else None
        if folder is not None and not list(folder.glob("checkpoints/last*.ckpt")):
            shutil.rmtree(cwd / "runs")  # nothing to resume yet: start anew
            folder = None
        process = start("train.py", *(["resume=last"] if folder is not None else words), cwd=cwd)
        if killed < kills:
            count = rng.randint(min(rows(cwd) + 1, total - 2), total - 2)
            kill_at(process, cwd, count, writing=rng.random() < 0.3)
        _, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, err
            return killed
        killed += 1
        if is_finished(cwd):  # it was killed while it ended
            return killed


def uninterrupted(folder, *words):
    """The run folder of a whole run."""
    done = run("train.py", *WORDS, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return uninterrupted(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_moment_a_run_ends_as_if_nothing_had_happened(whole, tmp_path, seed):
    survive(tmp_path, whole, WORDS, seed, kills=1)
    assert_same(only_run(tmp_path), whole)


VARIANTS = [
    ("data.num_workers=2", "callbacks=ema"),
    ("trainer.accumulate_grad_batches=2", "scheduled_sampling=0.5"),
    ("trainer.precision=bf16-mixed", "callbacks=ema", "data.num_workers=2"),
    ("trainer=ddp_sim", "trainer.accumulate_grad_batches=2"),
]


@pytest.mark.slow
@pytest.mark.parametrize("words", VARIANTS, ids=" ".join)
def test_killed_again_and_again(tmp_path, words):
    (tmp_path / "whole").mkdir()
    whole = uninterrupted(tmp_path / "whole", *words)
    killed = 0
    for seed in range(5):
        cwd = tmp_path / f"killed_{seed}"
        cwd.mkdir()
        killed += survive(cwd, whole, [*WORDS, *words], seed, kills=2)
        assert_same(only_run(cwd), whole)
    assert killed >= 5  # of 10: a run may end before its moment comes


@pytest.mark.parametrize(
    ("number", "code", "state"),
    [
        (signal.SIGTERM, 143, "preempted"),
        pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_a_run_that_resumes_as_if_nothing_had_happened(whole, tmp_path, number, code, state):
    process = start("train.py", *WORDS, "logger=default", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("runs/*/csv/metrics.csv")))
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code, err
    folder = only_run(tmp_path)
    assert f"resume={folder}" in out + err
    record = read(folder / "run.json")
    assert (record["state"], record["attempts"][-1]["exit_code"]) == (state, code)
    moved = tmp_path / "runs/moved"
    os.rename(folder, moved)
    again = run("train.py", "resume=last", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "moved from last.ckpt, step" in again.stdout + again.stderr
    assert_same(moved, whole)
    record = read(moved / "run.json")
    assert record["state"] == "finished"
    assert [attempt["state"] for attempt in record["attempts"]] == [state, "finished"]
    ends = [wandb_end(log) for log in sorted(moved.glob("wandb/offline-run-*/*.wandb"))]
    assert ends == [(code, state == "preempted"), (0, False)]


def wandb_end(log):
    """(exit code, whether it was marked as preempted) of a W&B run's attempt."""
    records = {record.WhichOneof("record_type"): record for record in read_log(log)}
    return records["exit"].exit.exit_code, "preempting" in records


@pytest.mark.slow
def test_a_killed_run_is_one_wandb_run(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected = uninterrupted(tmp_path / "whole", "logger=default")
    assert survive(tmp_path / "killed", expected, [*WORDS, "logger=default"], seed=4, kills=2) == 2
    folder = only_run(tmp_path / "killed")
    assert len(list(folder.glob("wandb/offline-run-*"))) == 3
    assert history(*join(folder)) == history(*join(expected))


def history(log):
    """[{name: value}] of the scalars of each step."""
    rows = (one.history for one in read_log(log) if one.WhichOneof("record_type") == "history")
    found = [{"/".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in rows]
    kept = [{key: row[key] for key in sorted(row) if not isinstance(row[key], str | dict)} for row in found]
    for row in kept:
        for name in ("_runtime", "_timestamp"):
            row.pop(name)
    return kept


def test_a_run_that_starts_anew_in_its_folder_ends_as_if_nothing_had_happened(whole, tmp_path):
    crash = "+callbacks.crash={_target_: helpers.interruptions.OneRank, how: bug, rank: 0, step: 2}"
    words = (*WORDS, "run_dir=run")
    first = start("train.py", *words, crash, cwd=tmp_path, PYTHONPATH=str(ROOT / "tests"))
    first.communicate()
    assert first.returncode == 1
    assert (tmp_path / "run/csv/metrics.csv").exists()
    assert not (tmp_path / "run/checkpoints").exists()
    again = run("train.py", *words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_two_devices_resume_the_last_run(tmp_path):
    process = start("train.py", *WORDS, "trainer=ddp_sim", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/last.ckpt")))
    process.kill_all()
    process.communicate()
    again = run("train.py", "resume=last", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert read(only_run(tmp_path) / "run.json")["state"] == "finished"


def test_a_second_process_in_a_folder_is_refused_in_one_line(tmp_path):
    process = start("train.py", *WORDS, "trainer.max_epochs=1000", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/last.ckpt")))
    done = run("train.py", f"resume={only_run(tmp_path)}", cwd=tmp_path)
    last = run("train.py", "resume=last", cwd=tmp_path)
    process.kill_all()
    process.communicate()
    assert (done.returncode, last.returncode) == (1, 1)
    assert "another process is running" in done.stderr
    assert "no run under" in last.stderr
    assert len(done.stderr.strip().splitlines()) == len(last.stderr.strip().splitlines()) == 1


def test_nan_ends_a_run_as_failed(tmp_path):
    done = run("train.py", *WORDS, "optimizer.lr=1e30", "trainer.gradient_clip_val=null", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not a number" in done.stderr
    folder = only_run(tmp_path)
    assert read(folder / "run.json")["state"] == "failed"
    assert not (folder / "metrics.json").exists()


def test_an_unforeseen_error_is_one_line_that_names_its_traceback(tmp_path):
    crash = "+callbacks.crash={_target_: helpers.interruptions.Crash}"
    process = start("train.py", *WORDS, crash, cwd=tmp_path, PYTHONPATH=str(ROOT / "tests"))
    _, err = process.communicate()
    assert process.returncode == 1
    (line,) = err.strip().splitlines()
    folder = only_run(tmp_path)
    assert line.startswith("error: RuntimeError: a bug; ")
    assert f"{folder}/traceback.txt" in line
    assert "RuntimeError: a bug" in (folder / "traceback.txt").read_text()
    assert json.loads((folder / "run.json").read_text())["error"] == "RuntimeError: a bug"
