"""The signals that ask a process with children to stop."""

import signal
from types import FrameType
from typing import Any

STOPS = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1  # Slurm sends the last one before a time limit


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
