"""The child's side of a launched process: its configuration, the parent watch, its reports.

Standard input is a pipe from the parent: one line with the configuration, then nothing for as long as the
parent runs. End of file means that the parent has ended, even if it was killed; the whole process group is
then killed. Ranks that Lightning starts inherit the pipe. Reports go through a socket. A job on a cluster,
which outlives its parent, finds its configuration in a file.

This module imports neither torch nor Optuna, so that a launched process starts fast.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

LAUNCHED = "AUTOCAPTION_LAUNCHED"  # set in a launched process and its ranks
REPORTS = "AUTOCAPTION_REPORTS"  # file descriptor of the socket for reports
JOB_CONFIG = "AUTOCAPTION_JOB_CONFIG"  # set in a job on a cluster: the file with its configuration


def receive_config() -> dict[str, Any]:
    """Read the resolved configuration that the parent sends; exits if the parent has ended."""
    if JOB_CONFIG in os.environ and LAUNCHED not in os.environ:
        return json.loads(Path(os.environ[JOB_CONFIG]).read_text(encoding="utf-8"))
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte, so that nothing after the line is consumed
        byte = os.read(0, 1)
        if not byte:
            sys.exit("error: the parent process ended before it sent a configuration")
        line += byte
    return json.loads(line)


def watch_parent() -> None:
    """Start a thread that kills this process and its group when the parent ends."""
    threading.Thread(target=_kill_group_at_eof, daemon=True, name="parent watch").start()


def _kill_group_at_eof() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


class ParentReporter:
    """Reports values to the parent and asks whether to prune; without a parent, never prunes."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Report the value after this many epochs; returns whether to prune.

        Args:
            epoch: the number of epochs trained, from 1.
            value: the monitored metric.
            last: whether training ends here anyway, so that the run must not count as pruned.
        """
        if REPORTS not in os.environ:
            return False
        socket = int(os.environ[REPORTS])
        os.write(socket, json.dumps([epoch, value, last]).encode() + b"\n")
        answer = os.read(socket, 1)
        if not answer:
            sys.exit("error: the sweep ended while this trial ran")
        return answer == b"1"
