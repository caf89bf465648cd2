"""A run while a process holds its folder: the lock, the attempt that run.json gets, and how it ends.

Free of torch, since the command line asks for a run before anything else is loaded.
"""

import contextlib
import os
import platform
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from autocaption import slurm
from autocaption.errors import UserError
from autocaption.exits import name_of
from autocaption.files import remove_asides, try_lock, write_json
from autocaption.mistakes import mistake
from autocaption.runs.folder import newest_checkpoint
from autocaption.runs.record import (
    FAILED,
    FILE,
    FINISHED,
    INTERRUPTED,
    LAYOUT,
    LOCK,
    PREEMPTED,
    PRUNED,
    RUNNING,
    holds_checkpoint,
    read,
)

PREEMPTIONS = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2  # Slurm's, the latter before a time limit
STOPS = signal.SIGINT, *PREEMPTIONS  # the signals that ask a run to stop
# Who asks for a run's state holds its lock for an instant (record.py).
TRIES, PAUSE = 3, 0.05  # to take the lock, and seconds between them
# Exit codes of a run that a signal stopped and that can be resumed, and its state.
STOPPED = {128 + signal.SIGINT: INTERRUPTED, 128 + signal.SIGTERM: PREEMPTED}


class Run:
    """A run folder that this process holds.

    Attributes:
        folder: the run folder.
        record: what run.json says.
        pruned: whether a sweep pruned it; set before it ends.
    """

    pruned = False

    def __init__(self, folder: Path, record: dict[str, Any], lock: TextIO) -> None:
        self.folder, self.record, self._lock = folder, record, lock

    @classmethod
    def start(
        cls, folder: Path, task: str, command: str, overrides: Sequence[str] = (), resumes: bool = False
    ) -> "Run":
        """Take the folder's lock and record an attempt; a new folder gets a random id, once.

        The state of a run that was there before stays as it is until the attempt begins.

        Args:
            folder: the run folder; created where it doesn't exist.
            task: `train`, `eval` or `trial`; `resume=last` looks for `train` only.
            command: the command line, without secrets.
            overrides: those of the command line, likewise; a resumed run replays them.
            resumes: whether it goes on from a checkpoint of the folder.

        Raises:
            UserError: another process works in the folder, it can't be written to, or the attempt would
                overwrite the run that is there.
        """
        lock = _locked(folder)
        try:
            record = read(folder)
            if record is not None and not resumes:
                _require_replaceable(folder, record, task)
        except UserError:
            lock.close()
            raise
        is_new = record is None and not resumes  # 0.1.0 wrote no run.json
        if record is None:
            record = {"layout": LAYOUT, "id": secrets.token_hex(6), "task": task, "created": _now()}
            record |= {"state": RUNNING if is_new else INTERRUPTED, "attempts": []}
        elif record["state"] == RUNNING:  # its process was killed
            record["state"] = INTERRUPTED
        attempt: dict[str, Any] = {"started": _now(), "command": command, "overrides": list(overrides)}
        attempt |= {"host": platform.node(), "pid": os.getpid(), "begun": is_new}
        if job := slurm.job_id():
            attempt["slurm_job"] = job
        record["attempts"] = [*record["attempts"], attempt]
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
        return self._attempt.get("exit_code", 1)

    @property
    def has_begun(self) -> bool:
        """Whether this attempt may change what an earlier one left; true in a new folder."""
        return self._attempt["begun"]

    @property
    def can_be_resumed(self) -> bool:
        """Whether it has not finished, and has left a checkpoint."""
        return self.record["state"] != FINISHED and holds_checkpoint(self.folder)

    def begin(self) -> None:
        """From here on the run is running, and ends as this attempt ends."""
        for folder in (self.folder, *self.folder.glob("[!.]*/")):  # a half-written checkpoint may be large
            remove_asides(folder)
        self.record["state"] = RUNNING
        self.record.pop("error", None)
        self.note(begun=True)

    def note(self, **facts: Any) -> None:
        """Add facts to this attempt, such as the checkpoint that it resumes from."""
        self._attempt.update(facts)
        self._write()

    def end(self, state: str, code: int, error: str = "") -> None:
        """Record how this attempt ended; one that hasn't begun leaves the run in the state that it had.

        Args:
            state: FINISHED, PREEMPTED, FAILED, PRUNED or INTERRUPTED.
            code: the exit code.
            error: one line, where it failed.
        """
        said = {"error": error} if error else {}
        if self.has_begun:
            self.record |= {"state": state, **said}
        self.note(ended=_now(), state=state, exit_code=code, **said)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record how the attempt ends, whatever ends it."""
        try:
            yield
        except KeyboardInterrupt:
            self._end_anyway(INTERRUPTED, exit_code(signal.SIGINT))
            raise
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            self._end_anyway(STOPPED.get(code, FAILED), code)
            raise
        except Exception as error:
            self._end_anyway(FAILED, 1, mistake(error) or name_of(error))
            raise
        state = PRUNED if self.pruned else FINISHED
        try:
            self.end(state, 0)
        except PreemptedError:  # a signal came as this was written
            self._end_anyway(state, 0)
            raise

    def _end_anyway(self, state: str, code: int, error: str = "") -> None:
        """Record an end that is being raised already, which a full disk must not replace."""
        with contextlib.suppress(OSError):
            self.end(state, code, error)

    def release(self) -> None:
        """Let another process work in the folder; the end of this one does so, too."""
        self._lock.close()

    @property
    def _attempt(self) -> dict[str, Any]:
        return self.record["attempts"][-1]

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


def _locked(folder: Path) -> TextIO:
    """The lock of a run folder, for as long as this process has it open."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "a")  # noqa: SIM115 (held until the process ends)
    except OSError as error:
        raise UserError(
            f"cannot write to the run folder {folder}: {error.strerror}; choose another with runs_dir=DIR"
        ) from None
    for _ in range(TRIES):
        if try_lock(lock):
            break
        time.sleep(PAUSE)
    else:
        lock.close()
        raise UserError(f"another process is running in {folder}; wait for it, or start a run of its own")
    os.register_at_fork(after_in_child=lock.close)  # a DataLoader's worker may outlive a killed process
    return lock


def _require_replaceable(folder: Path, record: dict[str, Any], task: str) -> None:
    """Refuse to overwrite a training that left something; an evaluation may be repeated in its folder.

    Raises:
        UserError: it says how to go on with the run that is there.
    """
    if record["task"] != task:
        raise UserError(f"{folder} is the folder of another command ({record['task']}); choose another")
    if task != "eval" and (record["state"] == FINISHED or newest_checkpoint(folder)):
        raise UserError(
            f"{folder} holds a run already ({record['state']}); resume={folder} goes on with it, "
            "and without run_dir a new run gets a folder of its own"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()
