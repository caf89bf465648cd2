"""The parent's side of a launched process: it sends the configuration and answers reports."""

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
from autocaption.runs.provenance import hide_argument
from autocaption.slurm import without_job


class Reporter(Protocol):
    """Handles the reports of a launched process."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Store the value; returns whether to prune. See `ParentReporter.report`."""
        ...


class Running(Protocol):
    """A process or job that was started."""

    def poll(self) -> int | None:
        """None while it runs, then its exit code; -N if signal N killed it."""
        ...

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ask it to stop, by default as Ctrl-C does."""
        ...

    def kill(self) -> None:
        """Kill it."""
        ...


class Process:
    """A run in a process, and process group, of its own.

    It appends to stdout.log and stderr.log in the run folder, and is killed when this process ends. It is no
    task of this process's Slurm job.

    Args:
        script: path of train.py.
        overrides: the command line that would give the same run, for its record; it is not parsed.
        config: the resolved configuration.
        folder: the run folder.
        reporter: handles the run's reports.
        environment: variables to add to this process's.
        inherited_files: file descriptors that the process inherits, such as the lock on its folder.
    """

    def __init__(
        self,
        script: str,
        overrides: Sequence[str],
        config: Mapping[str, Any],
        folder: Path,
        reporter: Reporter,
        environment: Mapping[str, str],
        inherited_files: Sequence[int] = (),
    ) -> None:
        self._reporter, self._received = reporter, b""
        self._socket, childs_end = socket.socketpair()
        self._socket.setblocking(False)
        with childs_end, open(folder / "stdout.log", "ab") as out, open(folder / "stderr.log", "ab") as err:
            added = {LAUNCHED: "1", REPORTS: str(childs_end.fileno()), "PYTHONUNBUFFERED": "1", **environment}
            self._process = subprocess.Popen(
                [sys.executable, script, *map(hide_argument, overrides)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**without_job(dict(os.environ)), **added},
                pass_fds=[childs_end.fileno(), *inherited_files],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended already; `poll` returns its exit code
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            self._process.stdin.flush()  # the pipe stays open: see parent.py

    def poll(self) -> int | None:
        """None while it runs, then its exit code; -N if signal N killed it.

        Answers pending reports, so call it often. If the reporter fails, the next call answers again.
        """
        if self._has_ended:
            return self._process.returncode
        code = self._process.poll()
        if code is None:
            self._answer_reports()
        else:
            self._kill_group()  # its ranks and workers, in case it was killed and they were not
            self._close()
        return code

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ask it to stop, by default as Ctrl-C does."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and all processes that it started."""
        if not self._has_ended:  # else the number of its group may be another's by now
            self._kill_group()

    @property
    def _has_ended(self) -> bool:
        return self._socket.fileno() < 0

    def _close(self) -> None:
        """Close what was open to it: a multirun may have more jobs than a process may have open files."""
        self._socket.close()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before it read its configuration
            self._process.stdin.close()

    def _answer_reports(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # no report, or it ended
            while received := self._socket.recv(4096):
                self._received += received
        while b"\n" in self._received:
            report, _, rest = self._received.partition(b"\n")
            prune = self._reporter.report(*json.loads(report))
            self._received = rest
            with contextlib.suppress(ConnectionError):
                self._socket.send(b"1" if prune else b"0")

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
            os.killpg(self._process.pid, signal.SIGKILL)


def last_error_line(folder: Path) -> str:
    """The last line in the run folder's stderr.log, without `error: `."""
    file = folder / "stderr.log"
    text = file.read_text(errors="replace") if file.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it wrote nothing to stderr"
