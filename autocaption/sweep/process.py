import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from autocaption.sweep.lifeline import TRIAL


class Running(Protocol):
    """A trial that was started."""

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative: the signal that killed it."""
        ...

    def interrupt(self) -> None:
        """Ask it to end as by Ctrl-C."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class TrialProcess:
    """A trial as a process of its own, in a process group of its own.

    It writes stdout.log and stderr.log into its folder, and ends with the process that started it.

    Args:
        script: train.py.
        words: the command line that would give the same run, for the record; not read.
        config: handed over as it stands.
        folder: of the run.
        environment: added to ours.
        keep: open files that the process inherits, such as the lock on its folder.
    """

    def __init__(
        self,
        script: str,
        words: Sequence[str],
        config: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, str],
        keep: Sequence[int] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "stdout.log", "ab") as out, open(folder / "stderr.log", "ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, script, *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, TRIAL: "1", "PYTHONUNBUFFERED": "1", **environment},
                pass_fds=keep,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            self._process.stdin.flush()  # and left open: see lifeline.py
        except BrokenPipeError:
            pass  # it ended already; its exit code tells

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative: the signal that killed it."""
        code = self._process.poll()
        if code is not None:
            self._signal(signal.SIGKILL)  # its ranks and workers, where it was killed itself
        return code

    def interrupt(self) -> None:
        """Ask it to end as by Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all it started at once."""
        self._signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; None where that takes longer."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(self._process.pid, number)


def last_error_line(folder: Path) -> str:
    """The last line that a trial's process wrote to stderr, without the word `error: `."""
    file = folder / "stderr.log"
    text = file.read_text(errors="replace") if file.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it wrote nothing to stderr"
