"""A run's identity and state (run.json), and the lock of the one process that may work in its folder.

Free of torch, since the command line asks for a run before anything else is loaded. Nothing here trusts an
absolute path: a run folder may be renamed, moved or copied to another machine.
"""

import contextlib
import json
import os
import platform
import secrets
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from autocaption import slurm
from autocaption.errors import UserError
from autocaption.exits import TRACEBACK, keep_traceback
from autocaption.files import try_lock, write_json
from autocaption.runs.provenance import HIDDEN

FILE, LOCK = "run.json", ".run.lock"
LAYOUT = 1  # of run.json
RUNNING, FINISHED, PREEMPTED, FAILED, PRUNED = "running", "finished", "preempted", "failed", "pruned"
INTERRUPTED = "interrupted"  # by Ctrl-C, or (never written, but seen from the free lock) by a crash
# Exit codes of a run that a signal stopped and that can be resumed, and its state.
STOPPED = {128 + signal.SIGINT: INTERRUPTED, 128 + signal.SIGTERM: PREEMPTED}


class Run:
    """A run folder that this process holds.

    Attributes:
        folder: the run folder.
        record: what run.json says.
        pruned: to be set where a sweep ends it early.
    """

    pruned = False

    def __init__(self, folder: Path, record: dict[str, Any], lock: TextIO) -> None:
        self.folder, self.record, self._lock = folder, record, lock

    @classmethod
    def start(cls, folder: Path, task: str, command: str, overrides: Sequence[str] = ()) -> "Run":
        """Take the folder's lock and record an attempt; a new folder gets a random id, once.

        Args:
            folder: the run folder; created where it doesn't exist.
            task: `train`, `eval` or `trial`; `resume=last` looks for `train` only.
            command: the command line, without secrets.
            overrides: those of the command line, likewise; a resumed run replays them.

        Raises:
            UserError: another process works in the folder, or it can't be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / LOCK, "a")  # noqa: SIM115 (held until the process ends)
        except OSError as error:
            raise UserError(
                f"cannot write to the run folder {folder}: {error.strerror}; choose another with runs=DIR"
            ) from None
        if not try_lock(lock):
            lock.close()
            raise UserError(f"another process is running in {folder}; wait for it, or start a run of its own")
        os.register_at_fork(after_in_child=lock.close)  # a DataLoader's worker may outlive a killed process
        try:
            record = read(folder)
        except UserError:
            lock.close()
            raise
        record = record or {
            "layout": LAYOUT,
            "id": secrets.token_hex(6),
            "task": task,
            "created": _now(),
            "attempts": [],
        }
        attempt: dict[str, Any] = {"started": _now(), "command": command, "overrides": list(overrides)}
        attempt |= {"host": platform.node(), "pid": os.getpid()}
        if job := slurm.job_id():
            attempt["slurm_job"] = job
        record |= {"state": RUNNING, "attempts": [*record["attempts"], attempt]}
        record.pop("error", None)
        run = cls(folder, record, lock)
        run._write()
        return run

    @property
    def id(self) -> str:
        """The random id of the run, and of its W&B run."""
        return self.record["id"]

    @property
    def exit_code(self) -> int:
        """The exit code of this attempt; 1 if it was not recorded, as on a full disk."""
        return self.record["attempts"][-1].get("exit_code", 1)

    def note(self, **facts: Any) -> None:
        """Add facts to this attempt, such as the checkpoint that it resumes from."""
        self.record["attempts"][-1] |= facts
        self._write()

    def end(self, state: str, code: int, error: str = "") -> None:
        """Record how this attempt ended.

        Args:
            state: FINISHED, PREEMPTED, FAILED, PRUNED or INTERRUPTED.
            code: the exit code.
            error: one line, where it failed.
        """
        self.record["state"] = state
        if error:
            self.record["error"] = error
        self.note(ended=_now(), state=state, exit_code=code)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record how the attempt ends, whatever ends it.

        The traceback of an error that is not the user's is kept in traceback.txt, which a note names.
        """
        try:
            yield
        except UserError as error:
            self._end_anyway(FAILED, 1, str(error))
            raise
        except KeyboardInterrupt:
            self._end_anyway(INTERRUPTED, exit_code(signal.SIGINT))
            raise
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            self._end_anyway(STOPPED.get(code, FAILED), code)
            raise
        except Exception as error:
            with contextlib.suppress(OSError):
                keep_traceback(error, self.folder / TRACEBACK)
            self._end_anyway(FAILED, 1, f"{type(error).__name__}: {error}".splitlines()[0])
            raise
        self.end(PRUNED if self.pruned else FINISHED, 0)

    def _end_anyway(self, state: str, code: int, error: str = "") -> None:
        """Record an end that is being raised already, which a full disk must not replace."""
        with contextlib.suppress(OSError):
            self.end(state, code, error)

    def release(self) -> None:
        """Let another process work in the folder; the end of this one does so, too."""
        self._lock.close()

    def _write(self) -> None:
        write_json(self.folder / FILE, self.record)


class PreemptedError(SystemExit):
    """A signal stopped the process, and what it did can be resumed.

    Attributes:
        signal: its number.
        code: the exit code: 130 for Ctrl-C, 143 for all others.
    """

    def __init__(self, number: int) -> None:
        self.signal = number
        super().__init__(exit_code(number))


def exit_code(number: int) -> int:
    """The exit code of a run that a signal stopped: 130 for Ctrl-C, 143 for all others."""
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def read(folder: Path) -> dict[str, Any] | None:
    """What a folder's run.json says; None where there is none.

    Raises:
        UserError: it is damaged, or a newer version wrote it.
    """
    file = folder / FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        layout, _ = int(record["layout"]), [record[key] for key in ("id", "task", "state")]
        _ = record["attempts"][-1]["started"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"cannot read {file}: {error}; restore it, or start anew with init_from=CHECKPOINT"
        ) from None
    if layout > LAYOUT:
        raise UserError(f"{file} was written by a newer autocaption (layout {layout}); update this one")
    return record


def earlier_overrides(folder: Path) -> list[str]:
    """The overrides of all attempts so far, in order; those with a secret are left out."""
    record = read(folder) or {"attempts": []}
    given = [one for attempt in record["attempts"] for one in attempt.get("overrides", [])]
    return [one for one in given if HIDDEN not in one and not one.startswith(("resume=", "hydra"))]


def state_of(folder: Path) -> str:
    """The state of a run, as of now: a run that says `running` but holds no lock was interrupted."""
    record = read(folder)
    state = record["state"] if record else INTERRUPTED
    return INTERRUPTED if state == RUNNING and not is_held(folder) else state


def is_held(folder: Path) -> bool:
    """Whether a process works in the folder."""
    try:
        with open(folder / LOCK) as lock:
            return not try_lock(lock)
    except OSError:
        return False


def is_of_this_job(record: dict[str, Any]) -> bool:
    """Whether the last attempt was made by the Slurm job that this process belongs to."""
    job = slurm.job_id()
    return job is not None and record["attempts"][-1].get("slurm_job") == job


def newest_to_resume(runs: Path) -> Path | None:
    """The folder of the training run that was started last and has neither finished nor is running.

    A requeued Slurm job takes the run that it had. Trials are left to their sweeps. None where there is no
    such run.
    """
    started = [
        (is_of_this_job(record), record["attempts"][-1]["started"], folder)
        for folder, record in _records(runs)
        if record["task"] == "train" and state_of(folder) not in (FINISHED, RUNNING)
    ]
    return max(started)[2] if started else None


def _records(runs: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in runs.glob(f"**/{FILE}"):
        try:
            record = read(file.parent)
        except UserError:
            continue  # a damaged one is no reason to refuse the others
        if record:
            yield file.parent, record


def _now() -> str:
    return datetime.now(UTC).isoformat()
