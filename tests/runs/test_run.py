"""A run's identity, lock and state, whatever ends it."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from autocaption.errors import UserError, WriteError
from autocaption.runs.record import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    PREEMPTED,
    PRUNED,
    RUNNING,
    earlier_overrides,
    is_held,
    read,
    started_with,
    state_of,
)
from autocaption.runs.run import Run


@pytest.fixture
def start(tmp_path):
    """Starts runs in tmp_path/run; they are released at the end."""
    started = []

    def start(folder="run", task="train", command="train.py seed=1"):
        started.append(Run.start(tmp_path / folder, task, command))
        return started[-1]

    yield start
    for run in started:
        run.release()


def test_the_id_is_random_and_stays(start, tmp_path):
    first = start()
    first.release()
    again, other = start(command="train.py resume=last"), start("other")
    assert first.id == again.id != other.id
    commands = [attempt["command"] for attempt in read(tmp_path / "run")["attempts"]]
    assert commands == ["train.py seed=1", "train.py resume=last"]
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert read(tmp_path / "copy")["id"] == first.id


def test_a_folder_has_one_process(start, tmp_path):
    run = start()
    assert is_held(tmp_path / "run")
    with pytest.raises(UserError, match=f"another process is running in {tmp_path}/run"):
        start()
    assert len(read(tmp_path / "run")["attempts"]) == 1
    run.release()
    assert not is_held(tmp_path / "run")
    start()


def test_asking_for_a_run_disturbs_neither_others_who_ask_nor_its_start(start, tmp_path, monkeypatch):
    start().release()
    with open(tmp_path / "run/.run.lock") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)  # as is_held does for an instant
        assert not is_held(tmp_path / "run")
        monkeypatch.setattr("time.sleep", lambda seconds: asking.close())
        start()
    assert is_held(tmp_path / "run")


def test_a_run_can_be_asked_for_over_nfs(start, tmp_path, monkeypatch):
    run = start()
    run.end(FINISHED, 0)
    run.release()
    monkeypatch.setattr("fcntl.flock", fcntl.lockf)  # which the client turns it into
    assert state_of(tmp_path / "run") == FINISHED


def test_a_file_system_without_locks_is_named(start, tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match=rf"cannot lock {tmp_path}/run/.run.lock: Function not implemented"):
        start()


def test_a_forked_worker_does_not_hold_the_folder(start, tmp_path):
    run = start()
    ready, started = os.pipe()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # a DataLoader's worker, which may outlive a killed process
        os.close(writing)
        os.write(started, b"1")
        os.read(reading, 1)
        os._exit(0)
    os.read(ready, 1)
    run.release()
    assert not is_held(tmp_path / "run")
    os.close(writing)
    os.waitpid(pid, 0)


ENDS = {
    "finished": (None, FINISHED, 0),
    "user error": (UserError("no room"), "failed", 1),
    "failure": (ValueError("boom,\nagain"), "failed", 1),
    "Ctrl-C": (KeyboardInterrupt(), INTERRUPTED, 130),
    "preempted": (SystemExit(143), "preempted", 143),
    "exit": (SystemExit("what"), "failed", 1),
}


@pytest.mark.parametrize(("error", "state", "code"), ENDS.values(), ids=ENDS)
def test_every_end_is_recorded(start, tmp_path, error, state, code):
    run = start()
    if error is None:
        with run.recorded():
            assert state_of(tmp_path / "run") == RUNNING
    else:
        with pytest.raises(type(error)), run.recorded():
            raise error
    run.release()
    record = read(tmp_path / "run")
    assert record["state"] == state_of(tmp_path / "run") == state
    (attempt,) = record["attempts"]
    assert (attempt["state"], attempt["exit_code"]) == (state, code)
    assert attempt["started"] < attempt["ended"]
    said = {"user error": "no room", "failure": "ValueError: boom, again"}
    assert record.get("error") == next((said[name] for name in said if ENDS[name][0] is error), None)


def test_a_pruned_run_is_recorded_as_such(start, tmp_path):
    run = start()
    with run.recorded():
        run.pruned = True
    run.release()
    assert state_of(tmp_path / "run") == PRUNED


def test_a_new_attempt_forgets_the_error(start, tmp_path):
    run = start()
    with pytest.raises(UserError), run.recorded():
        raise UserError("no room")
    run.release()
    start().begin()
    assert "error" not in read(tmp_path / "run")


def test_a_crashed_run_is_seen_from_its_free_lock(tmp_path):
    code = f"""
import os
from autocaption.runs.run import Run
run = Run.start(__import__("pathlib").Path({str(tmp_path / "run")!r}), "train", "")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert read(tmp_path / "run")["state"] == RUNNING
    assert state_of(tmp_path / "run") == INTERRUPTED


DAMAGED = ("", "{", "[]", '{"layout": 1}', '{"layout": 1, "id": "a", "task": "train", "state": "failed"}')


@pytest.mark.parametrize("text", [*DAMAGED, '{"layout": 99}'])
def test_a_file_that_cannot_be_understood_is_refused(start, tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        start()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match=f"cannot write to the run folder {tmp_path}/runs/x"):
        Run.start(tmp_path / "runs/x", "train", "")


def test_facts_of_an_attempt_are_kept(start, tmp_path):
    start().note(resumed_from="last.ckpt", step=7)
    (attempt,) = json.loads((tmp_path / "run/run.json").read_text())["attempts"]
    assert (attempt["resumed_from"], attempt["step"], attempt["pid"]) == ("last.ckpt", 7, os.getpid())


@pytest.mark.parametrize("error", [UserError("no room"), ValueError("a bug"), KeyboardInterrupt()])
def test_a_full_disk_hides_no_error(start, monkeypatch, error):
    run = start()

    def full(*_):
        raise WriteError(OSError(errno.ENOSPC, "No space left on device"), "run.json")

    monkeypatch.setattr(Run, "_write", full)
    with pytest.raises(type(error)) as raised, run.recorded():
        raise error
    assert raised.value is error
    assert run.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1)


@pytest.fixture
def ended(start, tmp_path):
    """Leaves a run that has ended in some state, in tmp_path/run."""

    def ended(state, task="train"):
        run = start(task=task)
        run.end(state, 0, "no room" if state == FAILED else "")
        run.release()
        return tmp_path / "run"

    return ended


@pytest.mark.parametrize("state", [FINISHED, PREEMPTED, INTERRUPTED, FAILED, PRUNED])
@pytest.mark.parametrize("error", [UserError("a mistake"), KeyboardInterrupt(), ValueError("a bug")])
def test_an_attempt_that_has_not_begun_leaves_the_run_in_its_state(ended, state, error):
    folder = ended(state)
    before = read(folder)
    run = Run.start(folder, "train", "train.py", ["seed=2"], resumes=True)
    assert state_of(folder) == RUNNING
    with pytest.raises(type(error)), run.recorded():
        raise error
    run.release()
    record = read(folder)
    assert state_of(folder) == state
    assert record.get("error") == before.get("error")
    assert record["attempts"][0] == before["attempts"][0]
    assert record["attempts"][1]["state"] in (FAILED, INTERRUPTED)
    assert earlier_overrides(folder) == []  # what was refused is not replayed


def test_an_attempt_that_has_begun_decides_the_state(ended):
    run = Run.start(ended(FINISHED), "train", "train.py", ["seed=2"], resumes=True)
    run.begin()
    with pytest.raises(UserError), run.recorded():
        raise UserError("the disk is full")
    run.release()
    assert (state_of(run.folder), read(run.folder)["error"]) == (FAILED, "the disk is full")
    assert earlier_overrides(run.folder) == ["seed=2"]


def test_overrides_are_replayed_by_their_names_of_today(tmp_path):
    given = ["runs=/r", "++runs=/s", "seed=2", "+model.runs=1", "+logger.csv.dir=${runs}/csv"]
    Run.start(tmp_path, "train", "train.py", given).release()
    expected = ["runs_dir=/r", "++runs_dir=/s", "seed=2", "+model.runs=1", "+logger.csv.dir=${runs_dir}/csv"]
    assert earlier_overrides(tmp_path) == started_with(tmp_path) == expected
    assert read(tmp_path)["attempts"][0]["overrides"] == given


def test_a_training_is_not_overwritten(ended):
    folder = ended(FINISHED)
    before = (folder / "run.json").read_text()
    with pytest.raises(UserError, match=rf"holds a run already \(finished\); resume={folder} goes on"):
        Run.start(folder, "train", "train.py")
    with pytest.raises(UserError, match=r"the folder of another command \(train\); choose another"):
        Run.start(folder, "eval", "eval.py")
    assert (folder / "run.json").read_text() == before
    assert not is_held(folder)


def test_a_run_that_left_nothing_may_start_anew_and_one_with_a_checkpoint_not(ended, tmp_path):
    folder = ended(FAILED)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/last.ckpt").write_bytes(b"damaged")
    Run.start(folder, "train", "train.py").release()
    with zipfile.ZipFile(folder / "checkpoints/last.ckpt", "w") as checkpoint:
        checkpoint.writestr("data", "whole")
    with pytest.raises(UserError, match=r"holds a run already \(failed\)"):
        Run.start(folder, "train", "train.py")


def test_an_attempt_removes_what_killed_ones_left_half_written(ended):
    folder = ended(PREEMPTED)
    torn = [folder / ".metrics.json.7", folder / "checkpoints/.last.ckpt.12345"]
    kept = [folder / name for name in (".secrets.json", "checkpoints/last.ckpt", "checkpoints/.keep.me")]
    (folder / "checkpoints").mkdir()
    for file in (*torn, *kept):
        file.touch()
    run = Run.start(folder, "train", "train.py", resumes=True)
    assert all(file.exists() for file in (*torn, *kept))
    run.begin()
    run.release()
    assert [file.exists() for file in (*torn, *kept)] == [False, False, True, True, True]


def test_an_evaluation_may_be_repeated(ended):
    folder = ended(FINISHED, task="eval")
    Run.start(folder, "eval", "eval.py").release()
    assert state_of(folder) == FINISHED


def test_only_a_run_with_a_checkpoint_that_has_not_finished_can_be_resumed(start):
    run = start()
    run.end(FAILED, 1)
    assert not run.can_be_resumed
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints/best.ckpt").touch()
    assert run.can_be_resumed
    run.end(FINISHED, 0)
    assert not run.can_be_resumed
