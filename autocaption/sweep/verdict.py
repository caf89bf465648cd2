"""A trial's side of its line to the sweep. It loads nothing, and the trial knows of no study or storage."""

import json
import os
import sys
from typing import Protocol

LINE = "AUTOCAPTION_SWEEP_LINE"  # the number of an open socket to the sweep


class Judge(Protocol):
    """Whom a trial reports to."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Take the figure after so many epochs; says whether the trial is to end there.

        After the last epoch it has ended anyway, and is not to count as pruned.
        """
        ...


class SweepJudge:
    """Sends a figure and waits for the verdict; a run outside of a sweep gets to go on."""

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Whether the trial is to end after this epoch, by the sweep's pruner."""
        if LINE not in os.environ:
            return False
        line = int(os.environ[LINE])
        os.write(line, json.dumps([epoch, value, last]).encode() + b"\n")
        verdict = os.read(line, 1)
        if not verdict:
            sys.exit("error: the sweep ended while this trial ran")
        return verdict == b"1"
