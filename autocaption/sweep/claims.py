"""Who runs which trial.

A trial is created and taken within `Storage.exclusive`, so no two processes take the same one. Whoever
takes it holds a lock on a file in its folder for as long as it, or the trial's process, lives; on one
machine that says at once whether a trial that is marked as running was interrupted. For trials of
other machines, whose locks can't be seen, a heartbeat says so.
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
from autocaption.sweep.heartbeat import Watch, home, process_is_alive
from autocaption.sweep.storage import Storage
from autocaption.sweep.study import ATTEMPT, ERROR, EXHAUSTED, INTERRUPTED, OWNER, UID


@dataclass
class Claim:
    """A trial that is ours to run.

    Attributes:
        trial: Optuna's; asking it for parameters that it has gives them again.
        attempt: 1 the first time, more after interruptions.
        folder: of the run.
        lock: an open file; a child process that inherits it shares the lock.
    """

    trial: optuna.Trial
    attempt: int
    folder: Path
    lock: TextIO

    @property
    def number(self) -> int:
        """The trial's."""
        return self.trial.number


class Claims:
    """Takes trials of a study, one at a time, up to a total.

    Args:
        study: the study.
        storage: its storage.
        folder: of the sweep; trials get folders in it.
        sampler_of: the sampler for a trial's number.
        total: of trials, whoever runs them and however they end.
        grace: seconds without a heartbeat until another machine's trial counts as interrupted.
        here: whether trials run on this machine, and not as jobs somewhere else.
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
        self._watch = Watch(grace)
        # Optuna's own refuses to be called outside of `optimize`.
        setattr(study, "stop", lambda: study.set_user_attr(EXHAUSTED, True))  # noqa: B010

    def take(self) -> Claim | None:
        """An interrupted trial to go on with, or a new one; None where nothing is left to take."""
        with self.storage.exclusive():
            trials = self._counted()
            for frozen in trials:
                if frozen.state is TrialState.RUNNING and (lock := self._abandoned(frozen)):
                    self.study.sampler = self.sampler_of(frozen.number)
                    return self._own(optuna.Trial(self.study, frozen._trial_id), lock)
            waiting = [frozen.number for frozen in trials if frozen.state is TrialState.WAITING]
            full = len(trials) >= self.total or EXHAUSTED in self.study.user_attrs
            if full and not waiting:
                return None
            number = waiting[0] if waiting else len(trials)
            if (free := self._lock(number)) is None:
                return None  # its last process is about to end
            self.study.sampler = self.sampler_of(number)
            trial = self.study.ask()
            assert trial.number == number
            return self._own(trial, free)

    def beat(self, claim: Claim) -> None:
        """Say that the trial goes on."""
        claim.trial.set_user_attr(OWNER, {**self.owner, "beat": time.time()})

    def finish(self, claim: Claim, state: TrialState, values: Sequence[float] | None, error: str) -> None:
        """Write the trial's end, unless it isn't ours any more."""
        with self.storage.exclusive():
            if self._ours(claim):
                if error:
                    claim.trial.set_user_attr(ERROR, error)
                self.study.sampler = self.sampler_of(claim.number)
                self.study.tell(claim.trial, values if state is TrialState.COMPLETE else None, state)
        claim.lock.close()

    def give_back(self, claim: Claim) -> None:
        """Leave the trial to whoever comes next, to go on from its last checkpoint."""
        with self.storage.exclusive():
            if self._ours(claim):
                claim.trial.set_user_attr(INTERRUPTED, time.strftime("%Y-%m-%d %H:%M:%S"))
                # A waiting trial is what Optuna's own `ask` takes first.
                self.study._storage.set_trial_state_values(claim.trial._trial_id, TrialState.WAITING)
        claim.lock.close()

    def unsettled(self) -> bool:
        """Whether a trial that someone else took may yet turn out to be interrupted."""
        waiting, running = TrialState.WAITING, TrialState.RUNNING
        return any(
            t.state is waiting or (t.state is running and not self._settled(t)) for t in self._counted()
        )

    def _counted(self) -> list[FrozenTrial]:
        """The trials within the total; more can wait, as `sweep.enqueue` may be the longer one."""
        return self.study.get_trials(deepcopy=False)[: self.total]

    def _own(self, trial: optuna.Trial, lock: TextIO) -> Claim:
        attempt = trial.user_attrs.get(ATTEMPT, 0) + 1
        trial.set_user_attr(ATTEMPT, attempt)
        trial.set_user_attr(OWNER, {**self.owner, "beat": time.time()})
        folder = self._folder(trial.number)
        _stamp(folder, self.study.user_attrs[UID])
        return Claim(trial, attempt, folder, lock)

    def _ours(self, claim: Claim) -> bool:
        frozen = self.study._storage.get_trial(claim.trial._trial_id)
        owner = frozen.user_attrs.get(OWNER, {}).get("id")
        return frozen.state is TrialState.RUNNING and owner == self.owner["id"]

    def _folder(self, number: int) -> Path:
        return self.folder / f"trial_{number}"

    def _lock(self, number: int) -> TextIO | None:
        """The lock on a trial's folder, or None where another process holds it."""
        self._folder(number).mkdir(parents=True, exist_ok=True)
        file = open(self._folder(number) / ".lock", "a")  # noqa: SIM115 (open for as long as it is ours)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _abandoned(self, frozen: FrozenTrial) -> TextIO | None:
        """The lock of a running trial that nobody runs."""
        owner = frozen.user_attrs.get(OWNER)
        if owner is not None and owner["id"] == self.owner["id"]:
            return None
        # A trial without an owner is one whose sweeper died between creating and owning it.
        local = owner is None or (owner["home"] and owner["home"] == self.owner["home"])
        return self._lock(frozen.number) if local or self._watch.silent(frozen) else None

    def _settled(self, frozen: FrozenTrial) -> bool:
        owner = frozen.user_attrs.get(OWNER)
        if owner is None:
            return False
        if owner["home"] and owner["home"] == self.owner["home"]:
            return process_is_alive(owner["pid"])
        return self._watch.beats(frozen)


def _stamp(folder: Path, study: str) -> None:
    """Mark a trial's folder as a study's (by its uid); what an earlier study left in it is moved aside."""
    file = folder / "trial.json"
    if file.exists() and (found := json.loads(file.read_text(encoding="utf-8"))["study"]) != study:
        aside = folder.with_name(f"{folder.name}_of_{found}")
        aside.mkdir(exist_ok=True)
        for entry in folder.iterdir():
            if entry.name != ".lock":  # held by us
                entry.rename(aside / entry.name)
    write_json(file, {"study": study})
