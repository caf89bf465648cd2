"""Run folders, and what resume= means."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from autocaption.errors import UserError
from autocaption.runs.folder import (
    checkpoint_to_resume,
    is_whole,
    newest_whole,
    removed_where_unused,
    rotate,
    run_folder,
)
from autocaption.runs.record import FAILED, FINISHED, INTERRUPTED, PREEMPTED
from autocaption.runs.run import Run


def write_checkpoint(file, text="content"):
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("record", text * 100)
    return file


def flip(file):
    """Flip bytes amid the content."""
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(255 - byte for byte in data[middle : middle + 40])
    file.write_bytes(data)


def make_run(folder, state, task="train", checkpoint=True):
    """A run that ended in this state."""
    run = Run.start(folder, task, "train.py")
    run.end(state, 0)
    run.release()
    return write_checkpoint(folder / "checkpoints/last.ckpt") if checkpoint else None


def test_a_process_has_one_new_run_folder():
    folder = Path(run_folder("runs", None))
    assert str(folder) == run_folder("runs", None)
    assert folder.parent == Path("runs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{6}", folder.name)
    assert not folder.exists()


@pytest.mark.parametrize(("text", "left"), [("", False), ("said", True)])
def test_a_new_folder_in_which_nothing_began_vanishes(tmp_path, text, left):
    folder, other = Path(run_folder(tmp_path, None)), tmp_path / "mine"
    for one in (folder, other):  # the latter's name may be another process's, too
        one.mkdir()
        (one / "train.log").write_text(text)
        with pytest.raises(UserError), removed_where_unused(one):
            raise UserError("a mistake")
    assert (folder.exists(), other.exists()) == (left, True)


def test_processes_get_different_names_without_torch():
    code = "import sys; from autocaption.runs import folder; "
    code += "print(folder.new_run_name(), 'torch' in sys.modules)"
    made = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(2)]
    assert made[0][0] != made[1][0]
    assert [words[1] for words in made] == ["False", "False"]


def test_resume_by_checkpoint_folder_and_home(tmp_path, monkeypatch):
    last = make_run(tmp_path / "runs/a", FINISHED)
    best = write_checkpoint(tmp_path / "runs/a/checkpoints/best.ckpt")
    make_run(tmp_path / "runs/b", FINISHED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for resume in ("runs/a", "~/runs/a", str(tmp_path / "runs/a"), "runs/a/checkpoints/last.ckpt"):
        assert checkpoint_to_resume("runs", resume) == (last, [])
        assert run_folder("runs", resume) == str(tmp_path / "runs/a")
    assert checkpoint_to_resume("runs", str(best)) == (best, [])


def test_last_is_the_newest_run_that_is_left_to_resume(tmp_path):
    older = make_run(tmp_path / "2030-01-01", PREEMPTED)
    assert checkpoint_to_resume(str(tmp_path), "last")[0] == older
    newest = make_run(tmp_path / "multirun/2020-01-01/3", INTERRUPTED)
    make_run(tmp_path / "2029-01-01", FINISHED)
    make_run(tmp_path / "sweeps/study/trial_0", INTERRUPTED, task="trial")
    make_run(tmp_path / "2031-01-01", INTERRUPTED, task="eval")
    running = Run.start(tmp_path / "2032-01-01", "train", "train.py")
    assert checkpoint_to_resume(str(tmp_path), "last")[0] == newest
    running.release()  # as a crash does
    write_checkpoint(tmp_path / "2032-01-01/checkpoints/last.ckpt")
    assert run_folder(str(tmp_path), "last") == str(tmp_path / "2032-01-01")


def test_last_without_a_checkpoint_stops_instead_of_taking_an_older_run(tmp_path):
    make_run(tmp_path / "a", PREEMPTED)
    make_run(tmp_path / "b", PREEMPTED, checkpoint=False)
    with pytest.raises(UserError, match=f"{tmp_path}/b holds no checkpoint yet"):
        checkpoint_to_resume(str(tmp_path), "last")


def test_last_passes_over_a_run_that_failed_before_its_first_checkpoint(tmp_path):
    make_run(tmp_path / "a", PREEMPTED)
    make_run(tmp_path / "b", FAILED, checkpoint=False)
    assert checkpoint_to_resume(str(tmp_path), "last")[0].is_relative_to(tmp_path / "a")


@pytest.mark.parametrize("runs", ["", "nowhere"])
def test_nothing_to_resume(tmp_path, runs):
    with pytest.raises(UserError, match=f"no run under {tmp_path / runs} is left to resume"):
        checkpoint_to_resume(str(tmp_path / runs), "last")


def test_paths_that_cannot_be_resumed_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    stray = write_checkpoint(tmp_path / "downloads/model.ckpt")
    for path, error in {
        tmp_path / "x.ckpt": f"checkpoint not found: resume={tmp_path}/x.ckpt",
        tmp_path / "empty": f"not a run folder: resume={tmp_path}/empty",
        stray: f"resume={stray} lies in no run folder; .*init_from={stray}",
    }.items():
        for call in (run_folder, checkpoint_to_resume):
            with pytest.raises(UserError, match=error):
                call(str(tmp_path), str(path))


def test_a_moved_run_is_resumed_where_it_lies_now(tmp_path):
    make_run(tmp_path / "a", PREEMPTED)
    os.rename(tmp_path / "a", tmp_path / "b")
    expected = tmp_path / "b/checkpoints/last.ckpt"
    assert checkpoint_to_resume(str(tmp_path), str(tmp_path / "b"))[0] == expected
    assert checkpoint_to_resume(str(tmp_path), "last")[0] == expected


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    last = make_run(tmp_path / "a", PREEMPTED)
    rotate(last, keep=2)
    os.replace(write_checkpoint(tmp_path / "new", "newer"), last)
    assert newest_whole(last.parent) == (last, [])
    flip(last)
    previous = tmp_path / "a/checkpoints/last-1.ckpt"
    assert checkpoint_to_resume(str(tmp_path), str(tmp_path / "a")) == (previous, [last])
    with pytest.raises(UserError, match=f"resume={last} is damaged"):
        checkpoint_to_resume(str(tmp_path), str(last))
    flip(previous)
    with pytest.raises(UserError, match="only damaged checkpoints"):
        checkpoint_to_resume(str(tmp_path), str(tmp_path / "a"))


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_rotation_keeps_the_newest_ones_and_never_leaves_a_gap(tmp_path, keep):
    last = tmp_path / "last.ckpt"
    for version in range(6):
        rotate(last, keep)
        assert last.exists() == (version > 0)
        os.replace(write_checkpoint(tmp_path / "new", f"{version}"), last)
    kept = [last, *sorted(tmp_path.glob("last-*.ckpt"))]
    assert [zipfile.ZipFile(file).read("record")[:1] for file in kept] == [
        str(5 - age).encode() for age in range(keep)
    ]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken"])
def test_what_is_no_checkpoint_is_not_whole(tmp_path, content):
    (tmp_path / "x.ckpt").write_bytes(content)
    assert not is_whole(tmp_path / "x.ckpt")
    whole = write_checkpoint(tmp_path / "y.ckpt")
    assert is_whole(whole)
    whole.write_bytes(whole.read_bytes()[:-30])
    assert not is_whole(whole)
