"""What run.json says of a run, to any process: its identity, its attempts and its state.

Free of torch, since the command line asks for a run before anything else is loaded. Nothing here trusts an
absolute path: a run folder may be renamed, moved or copied to another machine.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autocaption import slurm
from autocaption.errors import UserError
from autocaption.files import try_lock
from autocaption.runs.provenance import HIDDEN

FILE, LOCK = "run.json", ".run.lock"
LAYOUT = 1  # of run.json
RUNNING, FINISHED, PREEMPTED, FAILED, PRUNED = "running", "finished", "preempted", "failed", "pruned"
INTERRUPTED = "interrupted"  # by Ctrl-C, or (never written, but seen from the free lock) by a crash


def read(folder: Path) -> dict[str, Any] | None:
    """What a folder's run.json says; None where there is none.

    Raises:
        UserError: it is damaged, or a newer version wrote it.
    """
    file = folder / FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        layout = int(record["layout"])
        _ = record["id"], record["task"], record["state"], record["attempts"][-1]["started"]  # it has them
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"cannot read {file}: {error}; restore it, or start anew with init_from=CHECKPOINT"
        ) from None
    if layout > LAYOUT:
        raise UserError(f"{file} was written by a newer autocaption (layout {layout}); update this one")
    return record


def started_with(folder: Path) -> list[str] | None:
    """The overrides of the newest attempt that has begun and resumed nothing by hand; None for no run."""
    for attempt in reversed((read(folder) or {"attempts": []})["attempts"]):
        given = _overrides(attempt)
        if attempt.get("begun", True) and not any(one.startswith("resume=") for one in given):
            return given
    return None


def earlier_overrides(folder: Path) -> list[str]:
    """The overrides of all attempts that have begun, in order; those with a secret are left out."""
    record = read(folder) or {"attempts": []}
    begun = [attempt for attempt in record["attempts"] if attempt.get("begun", True)]
    given = [one for attempt in begun for one in _overrides(attempt)]
    return [one for one in given if HIDDEN not in one and not one.startswith(("resume=", "hydra"))]


def _overrides(attempt: dict[str, Any]) -> list[str]:
    """The overrides of an attempt; `runs_dir` by that name in those of a time when it was called `runs`."""
    given = (re.sub(r"^(\+\+)?runs=", r"\1runs_dir=", one) for one in attempt.get("overrides", []))
    return [one.replace("${runs}", "${runs_dir}") for one in given]


def state_of(folder: Path) -> str:
    """The state of a run, as of now: its lock tells whether it is running."""
    record = read(folder)
    if is_held(folder):
        return RUNNING
    return record["state"] if record and record["state"] != RUNNING else INTERRUPTED


def is_held(folder: Path) -> bool:
    """Whether a process works in the folder."""
    try:
        with open(folder / LOCK) as lock:
            return not try_lock(lock, shared=True)  # as others may ask at the same time
    except OSError:
        return False


def is_of_this_job(record: dict[str, Any]) -> bool:
    """Whether the last attempt was made by the Slurm job that this process belongs to."""
    job = slurm.job_id()
    return job is not None and record["attempts"][-1].get("slurm_job") == job


def holds_checkpoint(folder: Path) -> bool:
    """Whether the run has left a checkpoint, from which it can be resumed."""
    return any((folder / "checkpoints").glob("*.ckpt"))


def newest_to_resume(runs: Path) -> Path | None:
    """The folder of the training run that was started last and has neither finished nor is running.

    A requeued Slurm job takes the run that it had. Trials are left to their sweeps, and runs that failed
    before their first checkpoint, as by a mistyped value, are passed over. None where there is no such run.
    """
    started = [
        (is_of_this_job(record), record["attempts"][-1]["started"], folder)
        for folder, record in _records(runs)
        if record["task"] == "train" and _is_left(folder)
    ]
    return max(started)[2] if started else None


def _is_left(folder: Path) -> bool:
    state = state_of(folder)
    return state not in (FINISHED, RUNNING) and (state != FAILED or holds_checkpoint(folder))


def _records(runs: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in runs.glob(f"**/{FILE}"):
        try:
            record = read(file.parent)
        except UserError:
            continue  # a damaged one is no reason to refuse the others
        if record:
            yield file.parent, record
