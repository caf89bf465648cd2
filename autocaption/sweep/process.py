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

from autocaption.sweep.lifeline import TRIAL
from autocaption.sweep.verdict import LINE, Judge


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
        judge: gets what the trial reports (verdict.py).
        environment: added to ours.
        keep: open files that the process inherits, such as the lock on its folder.
    """

    def __init__(
        self,
        script: str,
        words: Sequence[str],
        config: Mapping[str, Any],
        folder: Path,
        judge: Judge,
        environment: Mapping[str, str],
        keep: Sequence[int] = (),
    ) -> None:
        self._judge, self._heard = judge, b""
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        with theirs, open(folder / "stdout.log", "ab") as out, open(folder / "stderr.log", "ab") as err:
            added = {TRIAL: "1", LINE: str(theirs.fileno()), "PYTHONUNBUFFERED": "1", **environment}
            self._process = subprocess.Popen(
                [sys.executable, script, *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, **added},
                pass_fds=[theirs.fileno(), *keep],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended already; its exit code tells
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            self._process.stdin.flush()  # and left open: see lifeline.py

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative: the signal that killed it.

        What the trial reports is answered here, so this is to be called often.
        """
        self._answer()
        code = self._process.poll()
        if code is not None:
            self._signal(signal.SIGKILL)  # its ranks and workers, where it was killed itself
            self._line.close()
        return code

    def interrupt(self) -> None:
        """Ask it to end as by Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all it started at once."""
        self._signal(signal.SIGKILL)

    def _answer(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # nothing was said, or it has ended
            while heard := self._line.recv(4096):
                self._heard += heard
        while b"\n" in self._heard:
            report, _, self._heard = self._heard.partition(b"\n")
            verdict = self._judge.report(*json.loads(report))
            with contextlib.suppress(ConnectionError):
                self._line.send(b"1" if verdict else b"0")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(self._process.pid, number)


def last_error_line(folder: Path) -> str:
    """The last line that a trial's process wrote to stderr, without the word `error: `."""
    file = folder / "stderr.log"
    text = file.read_text(errors="replace") if file.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it wrote nothing to stderr"
