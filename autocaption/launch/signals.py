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
def undisturbed() -> Iterator[None]:
    """Let imports end before a signal has its effect: amid torch's, an exception is swallowed, or aborts.

    Raises:
        PreemptedError: one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # whose signals are the main thread's
        return
    with StopSignals() as signals:
        yield
    if signals.count:
        raise PreemptedError(signals.last)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """End the process as stopped on each of STOPS, unless something within handles it.

    So a signal that comes before or after a training, in which `Preemption` handles it, kills no run without
    a trace, and Lightning (2.6), which takes a KeyboardInterrupt for a failure, makes none of Ctrl-C. While
    the process ends by one, only Ctrl-C ends it sooner, since Slurm sends several. Processes that are forked
    ignore all.

    Where Slurm announced a time limit (SIGUSR1), the job is requeued, when all is saved. Its own preemption
    and scancel come as SIGTERM, after which it requeues the job, or not, itself.

    Raises:
        PreemptedError: one came.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        is_ending = isinstance(sys.exc_info()[1], PreemptedError)
        if os.getpid() == owner and (number == signal.SIGINT or not is_ending):
            raise PreemptedError(number)

    in_main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    # A shell's background job ignores Ctrl-C.
    taken = STOPS if signal.getsignal(signal.SIGINT) is signal.default_int_handler else PREEMPTIONS
    previous = {number: signal.signal(number, stop) for number in taken if in_main}
    try:
        yield
    except PreemptedError as error:
        slurm.requeue_on(error.signal)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
