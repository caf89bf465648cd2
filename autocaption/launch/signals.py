"""The signals that ask a process to stop."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from autocaption import slurm
from autocaption.runs.run import PREEMPTIONS, STOPS, PreemptedError


class StopSignals:
    """Counts the signals of STOPS within a `with` block, in which they interrupt nothing.

    Attributes:
        count: how many came.
        last: the last one; 0 for none.
    """

    def __init__(self) -> None:
        self.count = self.last = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._previous = {number: signal.signal(number, self._receive) for number in STOPS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.count, self.last = self.count + 1, number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """End the process as preempted on SIGTERM, SIGUSR1 and SIGUSR2, unless something within handles them.

    So a signal that comes before or after a training, in which `Preemption` handles it, kills no run without
    a trace. While the process ends by one, further ones are ignored, since Slurm sends several. Processes
    that are forked ignore all.

    Where Slurm announced a time limit (SIGUSR1), the job is requeued, when all is saved. Its own preemption
    and scancel come as SIGTERM, after which it requeues the job, or not, itself.

    Raises:
        PreemptedError: one came.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner and not isinstance(sys.exc_info()[1], PreemptedError):
            raise PreemptedError(number)

    in_main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    previous = {number: signal.signal(number, stop) for number in PREEMPTIONS if in_main}
    try:
        yield
    except PreemptedError as error:
        slurm.requeue_on(error.signal)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
