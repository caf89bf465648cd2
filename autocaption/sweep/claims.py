"""Who runs which trial.

A trial is created and claimed within `Storage.exclusive`, so no two processes claim the same one. Its owner
holds a lock on a file in the trial's folder for as long as it, or the trial's process, is alive. On one
machine the lock says at once whether a running trial was interrupted; for trials of other machines, whose
locks can't be seen, their heartbeat does.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from autocaption.files import write_json
from autocaption.sweep.heartbeat import HeartbeatWatch, home, process_is_alive
from autocaption.sweep.internals import storage_of, trial_again, trial_id
from autocaption.sweep.storage import Storage
from autocaption.sweep.study import ATTEMPT, ERROR, EXHAUSTED, INTERRUPTED, OWNER, UID


@dataclass
class Claim:
    """A trial that this process owns.

    Attributes:
        trial: Optuna's trial; parameters that it has already are given again.
        attempt: 1 the first time, more after interruptions.
        folder: its run folder.
        lock: an open file; a child process that inherits it shares the lock.
    """

    trial: optuna.Trial
    attempt: int
    folder: Path
    lock: TextIO

    @property
    def number(self) -> int:
        """The number of the trial in its study."""
        return self.trial.number


class Claims:
    """Claims trials of a study, one at a time, up to a total.

    Args:
        study: the study.
        storage: where the study lies.
        folder: the sweep's folder; each trial gets a folder in it.
        sampler_of: gives the sampler for a trial's number.
        total: number of trials, whoever runs them and however they end.
        grace: seconds without a heartbeat after which a trial of another machine counts as interrupted.
        here: whether trials run on this machine, and not as jobs elsewhere.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: Storage,
        folder: Path,
        sampler_of: Callable[[int], BaseSampler],
        total: int,
        grace: float,
        here: bool,
    ) -> None:
        self.study, self.storage, self.folder = study, storage, folder
        self.sampler_of, self.total = sampler_of, total
        self.owner = {"home": home(folder) if here else "", "pid": os.getpid(), "id": secrets.token_hex(4)}
        self._watch = HeartbeatWatch(grace)
        # Samplers call it when nothing is left; Optuna's own refuses outside of `optimize`.
        setattr(study, "stop", lambda: study.set_user_attr(EXHAUSTED, True))  # noqa: B010

    def take(self) -> Claim | None:
        """Claim an interrupted trial, or else a new one; None where nothing is left."""
        with self.storage.exclusive():
            trials = self._counted()
            for frozen in trials:
                if frozen.state is TrialState.RUNNING and (lock := self._lock_of_orphan(frozen)):
                    self.study.sampler = self.sampler_of(frozen.number)
                    return self._own(trial_again(self.study, frozen), lock)
            waiting = [frozen.number for frozen in trials if frozen.state is TrialState.WAITING]
            full = len(trials) >= self.total or EXHAUSTED in self.study.user_attrs
            if full and not waiting:
                return None
            number = waiting[0] if waiting else len(trials)
            if (free := self._lock(number)) is None:
                return None  # its last process is still ending
            self.study.sampler = self.sampler_of(number)
            trial = self.study.ask()
            assert trial.number == number
            return self._own(trial, free)

    def send_heartbeat(self, claim: Claim) -> None:
        """Show that the trial is alive."""
        claim.trial.set_user_attr(OWNER, {**self.owner, "beat": time.time()})

    def finish(self, claim: Claim, state: TrialState, values: Sequence[float] | None, error: str) -> None:
        """Record the trial's end, unless another process has claimed it meanwhile."""
        with self.storage.exclusive():
            if self._ours(claim):
                if error:
                    claim.trial.set_user_attr(ERROR, error)
                self.study.sampler = self.sampler_of(claim.number)
                self.study.tell(claim.trial, values if state is TrialState.COMPLETE else None, state)
        claim.lock.close()

    def release(self, claim: Claim) -> None:
        """Give the trial back, to be resumed from its last checkpoint by whoever claims it next."""
        with self.storage.exclusive():
            if self._ours(claim):
                claim.trial.set_user_attr(INTERRUPTED, time.strftime("%Y-%m-%d %H:%M:%S"))
                # Optuna's own `ask` takes waiting trials first.
                storage_of(self.study).set_trial_state_values(trial_id(claim.trial), TrialState.WAITING)
        claim.lock.close()

    def may_be_orphaned(self) -> bool:
        """Whether a trial that another process owns may turn out to be interrupted."""
        waiting, running = TrialState.WAITING, TrialState.RUNNING
        return any(
            t.state is waiting or (t.state is running and not self._is_alive(t)) for t in self._counted()
        )

    def _counted(self) -> list[FrozenTrial]:
        """The trials within the total; `sweep.enqueue` may have added more."""
        return self.study.get_trials(deepcopy=False)[: self.total]

    def _own(self, trial: optuna.Trial, lock: TextIO) -> Claim:
        attempt = trial.user_attrs.get(ATTEMPT, 0) + 1
        trial.set_user_attr(ATTEMPT, attempt)
        trial.set_user_attr(OWNER, {**self.owner, "beat": time.time()})
        folder = self._folder(trial.number)
        _stamp(folder, self.study.user_attrs[UID])
        return Claim(trial, attempt, folder, lock)

    def _ours(self, claim: Claim) -> bool:
        frozen = storage_of(self.study).get_trial(trial_id(claim.trial))
        owner = frozen.user_attrs.get(OWNER, {}).get("id")
        return frozen.state is TrialState.RUNNING and owner == self.owner["id"]

    def _folder(self, number: int) -> Path:
        return self.folder / f"trial_{number}"

    def _lock(self, number: int) -> TextIO | None:
        """The lock of a trial's folder, or None where another process holds it."""
        self._folder(number).mkdir(parents=True, exist_ok=True)
        file = open(self._folder(number) / ".lock", "a")  # noqa: SIM115 (kept open)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _lock_of_orphan(self, frozen: FrozenTrial) -> TextIO | None:
        """The lock of a trial that is marked as running although no process runs it; else None."""
        owner = frozen.user_attrs.get(OWNER)
        if owner is not None and owner["id"] == self.owner["id"]:
            return None
        # A trial without an owner: its sweeper died between creating and claiming it.
        local = owner is None or (owner["home"] and owner["home"] == self.owner["home"])
        return self._lock(frozen.number) if local or self._watch.is_silent(frozen) else None

    def _is_alive(self, frozen: FrozenTrial) -> bool:
        owner = frozen.user_attrs.get(OWNER)
        if owner is None:
            return False
        if owner["home"] and owner["home"] == self.owner["home"]:
            return process_is_alive(owner["pid"])
        return self._watch.is_beating(frozen)


def _stamp(folder: Path, study: str) -> None:
    """Mark a trial's folder with its study's uid; files of an earlier study are moved aside."""
    file = folder / "trial.json"
    if file.exists() and (found := json.loads(file.read_text(encoding="utf-8"))["study"]) != study:
        aside = folder.with_name(f"{folder.name}_of_{found}")
        aside.mkdir(exist_ok=True)
        for entry in folder.iterdir():
            if entry.name != ".lock":  # held by us
                entry.rename(aside / entry.name)
    write_json(file, {"study": study})
