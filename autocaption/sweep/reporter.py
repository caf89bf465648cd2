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
from autocaption.sweep.study import ATTEMPT, EPOCHS, PRUNED


class StudyReporter:
    """Stores a trial's intermediate values in the study and asks its pruner.

    Args:
        study: with the pruner.
        number: of the trial.
        attempt: which of the trial's; another one means that ours was thought to be dead.
    """

    def __init__(self, study: optuna.Study, number: int, attempt: int) -> None:
        self.study, self.attempt = study, attempt
        self.storage = study._storage
        self.trial_id = self.storage.get_trial_id_from_study_id_trial_number(study._study_id, number)

    def is_current(self) -> bool:
        """Whether the trial runs and this attempt is the one that counts."""
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
    """What a process that left no result says of itself."""
    if code < 0:
        return Outcome(TrialState.FAIL, error=f"killed by {signal.Signals(-code).name}, again and again")
    if code == 0:
        return Outcome(TrialState.FAIL, error="it ended without metrics.json")
    return Outcome(TrialState.FAIL, error=last_error_line(folder))
