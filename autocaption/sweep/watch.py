import time
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial


@dataclass
class _Seen:
    state: Any
    since: float
    moved: bool = False


class Watch:
    """Tells from a trial's changes whether the machine that runs it lives.

    It goes by what this process sees on its own clock, so clocks need not agree.

    Args:
        grace: seconds without a change until a trial counts as silent.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._seen: dict[int, _Seen] = {}

    def silent(self, trial: FrozenTrial) -> bool:
        """Whether it has not changed for the grace period."""
        return time.monotonic() - self._look(trial).since > self.grace

    def moves(self, trial: FrozenTrial) -> bool:
        """Whether it was seen to change, and lately."""
        return self._look(trial).moved and not self.silent(trial)

    def _look(self, trial: FrozenTrial) -> _Seen:
        state = (trial.user_attrs, trial.intermediate_values)
        seen = self._seen.get(trial.number)
        if seen is None:
            seen = _Seen(state, time.monotonic())
        elif seen.state != state:
            seen = _Seen(state, time.monotonic(), moved=True)
        self._seen[trial.number] = seen
        return seen
