"""What a trial reports while it runs, and its outcome."""

import json
import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from autocaption.launch.process import last_error_line
from autocaption.sweep.storage import Storage
from autocaption.sweep.study import ATTEMPT, EPOCHS, JOB_HEARTBEAT, PROGRESS, PRUNED, STOPS
from autocaption.sweep.trial_folder import checkpoint_age


class StudyReporter:
    """Stores a trial's intermediate values in the study and asks the pruner.

    Args:
        storage: the study's storage.
        study: the study, with its pruner.
        number: the trial's number.
        attempt: the attempt at the trial that reports. If the trial has had another since, this one was
            taken for dead, and its reports are ignored.
    """

    def __init__(self, storage: Storage, study: optuna.Study, number: int, attempt: int) -> None:
        self.study, self.attempt = study, attempt
        self._storage, self._trial_id = storage.backend, storage.trial_id(study, number)

    def is_current(self) -> bool:
        """Whether the trial is running and this is its latest attempt."""
        trial = self._storage.get_trial(self._trial_id)
        return trial.state is TrialState.RUNNING and trial.user_attrs.get(ATTEMPT) == self.attempt

    def send_heartbeat(self) -> None:
        """Record that the trial's job is alive."""
        self._storage.set_trial_user_attr(self._trial_id, JOB_HEARTBEAT, time.time())

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Store the value; returns whether to prune, and records that.

        A resumed trial may report the same epoch again.
        """
        if not self.is_current():
            return True
        self._storage.set_trial_user_attr(self._trial_id, EPOCHS, epoch)
        if len(self.study.directions) > 1:
            return False  # Optuna can't prune by several objectives
        self._storage.set_trial_intermediate_value(self._trial_id, epoch, value)
        prune = not last and self.study.pruner.prune(self.study, self._storage.get_trial(self._trial_id))
        if prune:
            self._storage.set_trial_user_attr(self._trial_id, PRUNED, epoch)
        return prune


class Outcome(NamedTuple):
    """How a trial ended: the values of a complete one, the error line of a failed one."""

    state: TrialState
    values: list[float] | None = None
    error: str = ""


def recorded_outcome(trial: FrozenTrial, folder: Path, objective: Sequence[str]) -> Outcome | None:
    """The outcome that a trial left behind, perhaps before its sweeper was killed; None if there is none.

    Args:
        trial: the trial as stored.
        folder: its run folder.
        objective: the metrics that become the trial's values.
    """
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


def stopping_signal(code: int) -> int:
    """The signal that killed a process (exit code -N), or stopped a run or a shell (128 + N); 0 for none."""
    number = -code if code < 0 else code - 128
    return number if number in signal.valid_signals() else 0


def was_interrupted(code: int) -> bool:
    """Whether a process without a recorded outcome can be resumed: a signal ended it, or nothing did."""
    return code == 0 or stopping_signal(code) != 0


def count_stop(trial: optuna.Trial, stored: FrozenTrial, folder: Path) -> int:
    """Note that an attempt was stopped; returns how many in a row got no further than those before.

    Further is another epoch reported, or a newer checkpoint.
    """
    got = [stored.user_attrs.get(EPOCHS, 0), checkpoint_age(folder)]
    before = stored.user_attrs.get(PROGRESS, [0, 0])
    further = any(now > earlier for now, earlier in zip(got, before, strict=True))
    stops = 0 if further else stored.user_attrs.get(STOPS, 0) + 1
    trial.set_user_attr(PROGRESS, [max(pair) for pair in zip(got, before, strict=True)])
    trial.set_user_attr(STOPS, stops)
    return stops


def failure(code: int, folder: Path) -> Outcome:
    """The outcome of a process that exited with `code`, recorded none and is not to be resumed."""
    if number := stopping_signal(code):
        error = f"stopped by {signal.Signals(number).name} again and again without getting further"
    elif code == 0:
        error = "it ended without metrics.json again and again"
    else:
        error = last_error_line(folder)
    return Outcome(TrialState.FAIL, error=error)
