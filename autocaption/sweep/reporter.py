"""What a trial reports while it runs, and how it ended."""

import json
import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from autocaption.launch.process import last_error_line
from autocaption.sweep.internals import id_of_number, storage_of
from autocaption.sweep.study import ATTEMPT, EPOCHS, PRUNED


class StudyReporter:
    """Stores a trial's intermediate values in the study and asks its pruner.

    Args:
        study: with the pruner.
        number: the trial's number.
        attempt: the attempt that this process started; a later one takes over.
    """

    def __init__(self, study: optuna.Study, number: int, attempt: int) -> None:
        self.study, self.attempt = study, attempt
        self.storage = storage_of(study)
        self.trial_id = id_of_number(study, number)

    def is_current(self) -> bool:
        """Whether the trial is running and this is its current attempt."""
        trial = self.storage.get_trial(self.trial_id)
        return trial.state is TrialState.RUNNING and trial.user_attrs.get(ATTEMPT) == self.attempt

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Store the value; returns whether to prune, and stores that as well.

        A value that was reported before an interruption can be reported again.
        """
        if not self.is_current():
            return True
        self.storage.set_trial_user_attr(self.trial_id, EPOCHS, epoch)
        if len(self.study.directions) > 1:
            return False  # Optuna prunes by one objective only
        self.storage.set_trial_intermediate_value(self.trial_id, epoch, value)
        pruned = not last and self.study.pruner.prune(self.study, self.storage.get_trial(self.trial_id))
        if pruned:
            self.storage.set_trial_user_attr(self.trial_id, PRUNED, epoch)
        return pruned


class Outcome(NamedTuple):
    """How a trial ended; `values` of a complete one, `error` of a failed one."""

    state: TrialState
    values: list[float] | None = None
    error: str = ""


def outcome_so_far(trial: FrozenTrial, folder: Path, objective: Sequence[str]) -> Outcome | None:
    """How the trial ended, perhaps after its sweeper was killed; None where it has not."""
    if PRUNED in trial.user_attrs:
        return Outcome(TrialState.PRUNED)
    file = folder / "metrics.json"
    if not file.exists():
        return None
    metrics = json.loads(file.read_text(encoding="utf-8"))
    values = [metrics.get(name) for name in objective]
    for name, value in zip(objective, values, strict=True):
        if value is None:
            known = ", ".join(sorted(key for key in metrics if "/" in key))
            return Outcome(TrialState.FAIL, error=f"no metric {name} in {file}; there are {known}")
        if math.isnan(value):
            return Outcome(TrialState.FAIL, error=f"{name} is not a number")
    return Outcome(TrialState.COMPLETE, values)


def failure(code: int, folder: Path) -> Outcome:
    """The outcome of a process that left no result."""
    if code < 0:
        return Outcome(
            TrialState.FAIL, error=f"killed by {signal.Signals(-code).name}, more often than sweep.retries"
        )
    if code == 0:
        return Outcome(TrialState.FAIL, error="it ended without metrics.json")
    return Outcome(TrialState.FAIL, error=last_error_line(folder))
