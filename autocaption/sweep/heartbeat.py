"""Whether a trial's owner is alive: by its process on this machine, by its heartbeat on another."""

import os
import platform
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from autocaption.files import lock


def lock_domain(folder: Path) -> str:
    """A name for this machine and folder; sweepers with the same one see each other's file locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".home", "a+") as file:
        lock(file)  # or sweepers that start at once would each give it a name
        file.seek(0)
        if not (name := file.read()):
            file.write(name := secrets.token_hex(8))
    return f"{platform.node()} {name.strip()}"


def process_is_alive(pid: int) -> bool:
    """Whether a process with this id exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass
class _Observed:
    state: Any
    since: float
    changed: bool = False


class HeartbeatWatch:
    """Watches trials of other machines; any change of heartbeats or reported values shows life.

    Only this process's clock is read, so the machines' clocks need not agree.

    Args:
        grace: seconds without a change until a trial counts as interrupted.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._observed: dict[int, _Observed] = {}

    def timed_out(self, trial: FrozenTrial) -> bool:
        """Whether the trial has not changed for the grace period."""
        return time.monotonic() - self._observe(trial).since > self.grace

    def is_alive(self, trial: FrozenTrial) -> bool:
        """Whether the trial was seen to change within the grace period."""
        return self._observe(trial).changed and not self.timed_out(trial)

    def _observe(self, trial: FrozenTrial) -> _Observed:
        state = (trial.user_attrs, trial.intermediate_values)
        observed = self._observed.get(trial.number)
        if observed is None:
            observed = _Observed(state, time.monotonic())
        elif observed.state != state:
            observed = _Observed(state, time.monotonic(), changed=True)
        self._observed[trial.number] = observed
        return observed
