"""How a trial's process gets its configuration, and that it does not outlive its sweeper.

A trial's standard input is a pipe from the sweeper: one line with the configuration, then silence for
as long as the sweeper lives. Its end is the sweeper's, even when that is killed, and then the trial's
whole process group ends. The ranks that Lightning starts inherit the pipe.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

TRIAL = "AUTOCAPTION_TRIAL"  # set in a trial's process and its ranks


def receive() -> dict[str, Any]:
    """The configuration that the sweeper hands over."""
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte, so that nothing is read ahead
        byte = os.read(0, 1)
        if not byte:
            sys.exit("error: the sweep ended before this trial began")
        line += byte
    return json.loads(line)


def end_with_sweeper() -> None:
    """From now on, end this process and its group when the sweeper ends."""
    threading.Thread(target=_wait, daemon=True, name="lifeline").start()


def _wait() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
