"""Which sweeper runs which trial.

A trial is created or claimed within `Storage.exclusive`, so no two sweepers claim the same one. A claim is a
lock on a file in the trial's folder, which the trial's process inherits and which the system releases when
both processes have ended. On one machine, a trial that is marked as running and whose lock is free was
therefore interrupted. Locks of other machines can't be seen; their trials count as interrupted when their
heartbeat stops.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import optuna
from optuna.trial import FrozenTrial, TrialState

from autocaption.files import write_json
from autocaption.sweep.heartbeat import HeartbeatWatch, lock_domain, process_is_alive
from autocaption.sweep.storage import Storage
from autocaption.sweep.study import ATTEMPT, ERROR, EXHAUSTED, INTERRUPTED, OWNER, UID


@dataclass
class Claim:
    """A trial that this sweeper runs.

    Attributes:
        trial: the Optuna trial; a parameter that it already has keeps its value when suggested again.
        attempt: 1 at first, one more after each interruption.
        folder: the trial's run folder.
        lock: the locked file; a process that inherits it holds the lock as well.
    """

    trial: optuna.Trial
    attempt: int
    folder: Path
    lock: TextIO

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.trial.number


class Claims:
    """Claims the trials of a study, one at a time, up to a total.

    Args:
        study: the study.
        storage: the study's storage.
        folder: the sweep's folder; each trial has a folder in it.
        total: how many trials the study shall have, from all sweepers and whatever their outcome.
        grace: seconds without a heartbeat until another machine's trial counts as interrupted.
        local: whether trials run on this machine rather than as a launcher's jobs.
    """

    def __init__(
        self, study: optuna.Study, storage: Storage, folder: Path, total: int, grace: float, local: bool
    ) -> None:
        self.study, self.storage, self.folder, self.total = study, storage, folder, total
        # Stored with each trial as its OWNER, together with the heartbeat.
        domain = lock_domain(folder) if local else ""
        self.owner = {"home": domain, "pid": os.getpid(), "id": secrets.token_hex(4)}
        self._watch = HeartbeatWatch(grace)

    def claim_next(self) -> Claim | None:
        """Claim an interrupted trial, else a waiting one, else a new one; None if there is none to claim."""
        with self.storage.exclusive():
            trials = self._counted()
            for frozen in trials:
                if frozen.state is TrialState.RUNNING and (lock := self._lock_if_orphaned(frozen)):
                    # Built by hand, since `Study.ask` never returns a running trial.
                    trial = optuna.Trial(self.study, self.storage.trial_id(self.study, frozen.number))
                    return self._record_claim(trial, lock)
            waiting = [frozen.number for frozen in trials if frozen.state is TrialState.WAITING]
            full = len(trials) >= self.total or EXHAUSTED in self.study.user_attrs
            if full and not waiting:
                return None
            number = waiting[0] if waiting else len(trials)
            if (free := self._lock(number)) is None:
                return None  # the process of its last attempt is about to end
            trial = self.study.ask()
            assert trial.number == number
            return self._record_claim(trial, free)

    def send_heartbeat(self, claim: Claim) -> None:
        """Record that this sweeper still runs the trial."""
        claim.trial.set_user_attr(OWNER, {**self.owner, "beat": time.time()})

    def finish(self, claim: Claim, state: TrialState, values: Sequence[float] | None, error: str) -> None:
        """Store the trial's outcome, unless another sweeper has claimed the trial since."""
        with self.storage.exclusive():
            if self._is_ours(claim):
                if error:
                    claim.trial.set_user_attr(ERROR, error)
                self.study.tell(claim.trial, values if state is TrialState.COMPLETE else None, state)
        claim.lock.close()

    def release(self, claim: Claim) -> None:
        """Return an interrupted trial to the queue, to be resumed from its last checkpoint."""
        with self.storage.exclusive():
            if self._is_ours(claim):
                claim.trial.set_user_attr(INTERRUPTED, time.strftime("%Y-%m-%d %H:%M:%S"))
                # `Study.ask` prefers waiting trials to new ones.
                trial_id = self.storage.trial_id(self.study, claim.number)
                self.storage.backend.set_trial_state_values(trial_id, TrialState.WAITING)
        claim.lock.close()

    def should_wait(self) -> bool:
        """Whether a trial of another sweeper may still turn out to be interrupted."""
        waiting, running = TrialState.WAITING, TrialState.RUNNING
        return any(
            trial.state is waiting or (trial.state is running and not self._owner_is_alive(trial))
            for trial in self._counted()
        )

    def _counted(self) -> list[FrozenTrial]:
        """The trials within the total; the queue may be longer, as `sweep.enqueue` may be."""
        return self.study.get_trials(deepcopy=False)[: self.total]

    def _record_claim(self, trial: optuna.Trial, lock: TextIO) -> Claim:
        attempt = trial.user_attrs.get(ATTEMPT, 0) + 1
        trial.set_user_attr(ATTEMPT, attempt)
        claim = Claim(trial, attempt, self._folder(trial.number), lock)
        self.send_heartbeat(claim)
        _mark_folder(claim.folder, self.study.user_attrs[UID])
        return claim

    def _is_ours(self, claim: Claim) -> bool:
        frozen = self.storage.trial(self.study, claim.number)
        owner = frozen.user_attrs.get(OWNER, {}).get("id")
        return frozen.state is TrialState.RUNNING and owner == self.owner["id"]

    def _folder(self, number: int) -> Path:
        return self.folder / f"trial_{number}"

    def _lock(self, number: int) -> TextIO | None:
        """The lock on a trial's folder, or None if another process holds it."""
        self._folder(number).mkdir(parents=True, exist_ok=True)
        file = open(self._folder(number) / ".lock", "a")  # noqa: SIM115 (open until the claim ends)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _lock_if_orphaned(self, frozen: FrozenTrial) -> TextIO | None:
        """The lock of a running trial whose processes have ended, else None."""
        owner = frozen.user_attrs.get(OWNER)
        if owner is not None and owner["id"] == self.owner["id"]:
            return None
        # Without an owner: its sweeper was killed between creating and claiming it.
        lock_tells = owner is None or self._shares_locks(owner)
        return self._lock(frozen.number) if lock_tells or self._watch.timed_out(frozen) else None

    def _owner_is_alive(self, frozen: FrozenTrial) -> bool:
        owner = frozen.user_attrs.get(OWNER)
        if owner is None:
            return False
        return process_is_alive(owner["pid"]) if self._shares_locks(owner) else self._watch.is_alive(frozen)

    def _shares_locks(self, owner: dict) -> bool:
        return bool(owner["home"]) and owner["home"] == self.owner["home"]


def _mark_folder(folder: Path, study_uid: str) -> None:
    """Mark a trial's folder as this study's; files of another study are moved to a folder beside it."""
    file = folder / "trial.json"
    if file.exists() and (found := json.loads(file.read_text(encoding="utf-8"))["study"]) != study_uid:
        moved = folder.with_name(f"{folder.name}_of_{found}")
        moved.mkdir(exist_ok=True)
        for entry in folder.iterdir():
            if entry.name != ".lock":  # this process holds it
                entry.rename(moved / entry.name)
    write_json(file, {"study": study_uid})
