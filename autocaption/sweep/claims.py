"""Which sweeper runs which trial.

A trial is created or claimed within `Storage.exclusive`, so no two sweepers claim the same one. A claim is a
lock on a file in the trial's folder, which the trial's process inherits and which the system releases when
both processes have ended. On one machine, a trial that is marked as running and whose lock is free was
therefore interrupted. Locks of other machines can't be seen; their trials count as interrupted when their
heartbeat stops.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import optuna
from optuna.trial import FrozenTrial, TrialState

from autocaption.sweep.heartbeat import HeartbeatWatch, lock_domain, process_is_alive
from autocaption.sweep.storage import Storage
from autocaption.sweep.study import ATTEMPT, ERROR, EXHAUSTED, INTERRUPTED, OWNER, UID
from autocaption.sweep.trial_folder import lock_folder, mark_folder


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
        self._grace, self._watch = grace, HeartbeatWatch(grace)
        self._held: set[int] = set()  # trials that were handed out and are not finished or released

    def claim_next(self) -> Claim | None:
        """Claim an interrupted trial, else a waiting one, else a new one; None if there is none to claim.

        If the storage fails, nothing is claimed, and the next call claims what this one may have stored.
        """
        claim = None
        try:
            with self.storage.exclusive():
                claim = self._claim_next()
        except BaseException:
            if claim is not None:
                claim.lock.close()
            raise
        if claim is not None:
            self._held.add(claim.number)
        return claim

    def is_ours(self, claim: Claim) -> bool:
        """Whether no other sweeper has taken the trial for interrupted and claimed it."""
        frozen = self.storage.trial(self.study, claim.number)
        owner = frozen.user_attrs.get(OWNER, {}).get("id")
        return frozen.state is TrialState.RUNNING and owner == self.owner["id"]

    def send_heartbeat(self, claim: Claim) -> None:
        """Record that this sweeper still runs the trial, unless another one has claimed it since."""
        if self.is_ours(claim):
            self._own(claim.trial)

    def finish(self, claim: Claim, state: TrialState, values: Sequence[float] | None, error: str) -> None:
        """Store the trial's outcome, unless another sweeper has claimed the trial since."""
        with self.storage.exclusive():
            if self.is_ours(claim):
                if error:
                    claim.trial.set_user_attr(ERROR, error)
                self.study.tell(claim.trial, values if state is TrialState.COMPLETE else None, state)
        self._hand_back(claim)

    def release(self, claim: Claim) -> None:
        """Return an interrupted trial to the queue, to be resumed from its last checkpoint."""
        with self.storage.exclusive():
            if self.is_ours(claim):
                claim.trial.set_user_attr(INTERRUPTED, time.strftime("%Y-%m-%d %H:%M:%S"))
                # `Study.ask` prefers waiting trials to new ones.
                trial_id = self.storage.trial_id(self.study, claim.number)
                self.storage.backend.set_trial_state_values(trial_id, TrialState.WAITING)
        self._hand_back(claim)

    def forget_heartbeats(self) -> None:
        """Give other machines' trials the whole grace period again, as after an outage of the storage."""
        self._watch = HeartbeatWatch(self._grace)

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

    def _claim_next(self) -> Claim | None:
        trials = self._counted()
        for frozen in trials:
            if frozen.state is TrialState.RUNNING and (lock := self._lock_if_orphaned(frozen)):
                return self._claim(frozen.number, lock)
        waiting = [frozen.number for frozen in trials if frozen.state is TrialState.WAITING]
        full = len(trials) >= self.total or EXHAUSTED in self.study.user_attrs
        if full and not waiting:
            return None
        number = waiting[0] if waiting else len(trials)
        if (free := lock_folder(self._folder(number))) is None:
            return None  # the process of its last attempt is about to end
        return self._claim(number, free, ask=True)

    def _claim(self, number: int, lock: TextIO, ask: bool = False) -> Claim | None:
        """Claim the trial, asking Optuna for it unless it runs already; the lock is closed on failure."""
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(lock.close)
            # Built by hand, since `Study.ask` never returns a running trial.
            asked = self.study.ask() if ask else None
            trial = asked or optuna.Trial(self.study, self.storage.trial_id(self.study, number))
            if trial.number != number:
                return None  # the exclusive lock was lost, as in an outage; the next call claims the trial
            claim = Claim(trial, trial.user_attrs.get(ATTEMPT, 0) + 1, self._folder(number), lock)
            mark_folder(claim.folder, self.study.user_attrs[UID])
            trial.set_user_attr(ATTEMPT, claim.attempt)
            self._own(trial)
            on_failure.pop_all()
        return claim

    def _own(self, trial: optuna.Trial) -> None:
        trial.set_user_attr(OWNER, {**self.owner, "beat": time.time()})

    def _hand_back(self, claim: Claim) -> None:
        self._held.discard(claim.number)
        claim.lock.close()

    def _folder(self, number: int) -> Path:
        return self.folder / f"trial_{number}"

    def _lock_if_orphaned(self, frozen: FrozenTrial) -> TextIO | None:
        """The lock of a running trial whose processes have ended, else None."""
        owner = frozen.user_attrs.get(OWNER)
        if frozen.number in self._held:
            return None
        # Without an owner: its sweeper was killed between creating and claiming it.
        lock_tells = owner is None or self._shares_locks(owner)
        return (
            lock_folder(self._folder(frozen.number)) if lock_tells or self._watch.timed_out(frozen) else None
        )

    def _owner_is_alive(self, frozen: FrozenTrial) -> bool:
        owner = frozen.user_attrs.get(OWNER)
        if owner is None:
            return False
        return process_is_alive(owner["pid"]) if self._shares_locks(owner) else self._watch.is_alive(frozen)

    def _shares_locks(self, owner: dict) -> bool:
        return bool(owner["home"]) and owner["home"] == self.owner["home"]
