"""The parent's side of a launched process: it hands over a configuration and answers reports."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from autocaption.launch.parent import LAUNCHED, REPORTS


class Reporter(Protocol):
    """Takes the reports of a launched process."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Store the value; returns whether to prune (parent.py)."""
        ...


class Running(Protocol):
    """A process or job that was started."""

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative: the signal that killed it."""
        ...

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ask it to stop, by default as Ctrl-C does."""
        ...

    def kill(self) -> None:
        """Kill it at once."""
        ...


class Process:
    """A run as a process of its own, in a process group of its own.

    It appends to stdout.log and stderr.log in its folder, and ends with the process that started it.

    Args:
        script: train.py.
        overrides: the command line that would give the same run, for the record; it is not parsed.
        config: the resolved configuration.
        folder: the run folder.
        reporter: takes its reports.
        environment: added to ours.
        keep: open files that the process inherits, such as the lock on its folder.
    """

    def __init__(
        self,
        script: str,
        overrides: Sequence[str],
        config: Mapping[str, Any],
        folder: Path,
        reporter: Reporter,
        environment: Mapping[str, str],
        keep: Sequence[int] = (),
    ) -> None:
        self._reporter, self._received = reporter, b""
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs, open(folder / "stdout.log", "ab") as out, open(folder / "stderr.log", "ab") as err:
            added = {LAUNCHED: "1", REPORTS: str(theirs.fileno()), "PYTHONUNBUFFERED": "1", **environment}
            self._process = subprocess.Popen(
                [sys.executable, script, *overrides],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, **added},
                pass_fds=[theirs.fileno(), *keep],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has already ended; its exit code tells
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            self._process.stdin.flush()  # and left open: see parent.py

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative: the signal that killed it.

        Reports are answered here, so call it often.
        """
        self._answer()
        code = self._process.poll()
        if code is not None:
            self._signal(signal.SIGKILL)  # its ranks and workers, where it was killed itself
            self._socket.close()
        return code

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ask it to stop, by default as Ctrl-C does."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and all that it started."""
        self._signal(signal.SIGKILL)

    def _answer(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # no report, or it has ended
            while received := self._socket.recv(4096):
                self._received += received
        while b"\n" in self._received:
            report, _, self._received = self._received.partition(b"\n")
            prune = self._reporter.report(*json.loads(report))
            with contextlib.suppress(ConnectionError):
                self._socket.send(b"1" if prune else b"0")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
            os.killpg(self._process.pid, number)


def last_error_line(folder: Path) -> str:
    """The last line that a process wrote to stderr.log, without `error: `."""
    file = folder / "stderr.log"
    text = file.read_text(errors="replace") if file.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it wrote nothing to stderr"
