"""A launched process's side: its configuration, its parent's death, its reports.

Standard input is a pipe from the parent: one line with the configuration, then silence for as long as the
parent lives. End of file means that the parent is gone, even if it was killed, and then the whole process
group ends. Ranks that Lightning starts inherit the pipe. Reports go through a socket of their own.

This module loads no torch and no Optuna, so that a launched process starts fast.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

LAUNCHED = "AUTOCAPTION_LAUNCHED"  # set in a launched process and its ranks
REPORTS = "AUTOCAPTION_REPORTS"  # file descriptor of the socket for reports


def receive_config() -> dict[str, Any]:
    """The resolved configuration that the parent hands over."""
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte, so that nothing is read ahead
        byte = os.read(0, 1)
        if not byte:
            sys.exit("error: the parent process ended before it handed over a configuration")
        line += byte
    return json.loads(line)


def watch_parent() -> None:
    """From now on, end this process and its group when the parent ends."""
    threading.Thread(target=_wait, daemon=True, name="parent watch").start()


def _wait() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


class ParentReporter:
    """Reports values to the parent and asks whether to prune; without a parent, never prunes."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Report the value after this many epochs; returns whether to prune.

        Args:
            epoch: 1 after the first.
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
