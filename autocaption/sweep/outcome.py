import json
import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from autocaption.sweep.judge import PRUNED
from autocaption.sweep.process import last_error_line


class Outcome(NamedTuple):
    """How a trial ended; the values of a complete one."""

    state: TrialState
    values: list[float] | None = None
    error: str = ""


def outcome_so_far(trial: FrozenTrial, folder: Path, objective: Sequence[str]) -> Outcome | None:
    """The end that a trial came to, perhaps before its sweeper was killed; None where it came to none."""
    if PRUNED in trial.user_attrs:
        return Outcome(TrialState.PRUNED)
    file = folder / "metrics.json"
    if not file.exists():
        return None
    figures = json.loads(file.read_text(encoding="utf-8"))
    values = [figures.get(name) for name in objective]
    for name, value in zip(objective, values, strict=True):
        if value is None:
            known = ", ".join(sorted(key for key in figures if "/" in key))
            return Outcome(TrialState.FAIL, error=f"no figure {name} in {file}; there are {known}")
        if math.isnan(value):
            return Outcome(TrialState.FAIL, error=f"{name} is not a number")
    return Outcome(TrialState.COMPLETE, values)


def failure(code: int, folder: Path) -> Outcome:
    """What a process that left no result says of itself."""
    if code < 0:
        return Outcome(TrialState.FAIL, error=f"killed by {signal.Signals(-code).name}, again and again")
    if code == 0:
        return Outcome(TrialState.FAIL, error="it ended without metrics.json")
    return Outcome(TrialState.FAIL, error=last_error_line(folder))
