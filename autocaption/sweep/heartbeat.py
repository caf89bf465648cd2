"""Whether the owner of a trial is alive: by its process on this machine, by its heartbeat on another."""

import os
import platform
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from autocaption.files import write_json


def home(folder: Path) -> str:
    """This machine and this folder, as one name: where it is equal, locks on files can be trusted."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".home"
    if not file.exists():
        write_json(file, secrets.token_hex(8))
    return f"{platform.node()} {file.read_text().strip()}"


def process_is_alive(pid: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass
class _Seen:
    state: Any
    since: float
    changed: bool = False


class HeartbeatWatch:
    """Watches for changes of trials that other machines run: heartbeats and reported values.

    Only this process's own clock counts, so clocks need not agree.

    Args:
        grace: seconds without a change after which a trial is silent.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._seen: dict[int, _Seen] = {}

    def is_silent(self, trial: FrozenTrial) -> bool:
        """Whether the trial has not changed for the grace period."""
        return time.monotonic() - self._look(trial).since > self.grace

    def is_beating(self, trial: FrozenTrial) -> bool:
        """Whether the trial was seen to change within the grace period."""
        return self._look(trial).changed and not self.is_silent(trial)

    def _look(self, trial: FrozenTrial) -> _Seen:
        state = (trial.user_attrs, trial.intermediate_values)
        seen = self._seen.get(trial.number)
        if seen is None:
            seen = _Seen(state, time.monotonic())
        elif seen.state != state:
            seen = _Seen(state, time.monotonic(), changed=True)
        self._seen[trial.number] = seen
        return seen
