"""The loop of a sweep: start trials, await them, resume interrupted ones."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from autocaption.errors import UserError
from autocaption.launch.process import Running
from autocaption.launch.signals import StopSignals
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.patience import Patience
from autocaption.sweep.reporter import Outcome, count_stop, failure, recorded_outcome, was_interrupted
from autocaption.sweep.storage import STORAGE_ERRORS
from autocaption.sweep.table import SweepTable

POLL_SECONDS = 0.05  # between two looks at the processes
REFRESH_SECONDS = 1.0  # between two updates of the table


class InterruptedSweepError(Exception):
    """A signal ended the sweep early.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


@dataclass
class _Job:
    claim: Claim
    running: Running | None = None  # None while it is to be started


class Sweeper:
    """Runs the missing trials of a sweep, the next one as soon as a slot is free.

    Args:
        claims: the source of trials.
        start: starts a claimed trial in a slot (0 to jobs - 1).
        table: shows the trials.
        objective: the metrics that become a trial's values.
        jobs: how many trials run at a time.
        max_failures: how many trials in a row may fail before the sweep stops.
        retries: how often in a row a trial may be interrupted without getting further.
        heartbeat: seconds between two heartbeats.
        patience: waits for the storage.
    """

    def __init__(
        self,
        claims: Claims,
        start: Callable[[Claim, int], Running],
        table: SweepTable,
        objective: Sequence[str],
        jobs: int,
        max_failures: int,
        retries: int,
        heartbeat: float,
        patience: Patience,
    ) -> None:
        self.claims, self.start, self.table, self.objective = claims, start, table, objective
        self.jobs, self.max_failures, self.retries, self.heartbeat = jobs, max_failures, retries, heartbeat
        self.patience = patience
        self._jobs: dict[int, _Job] = {}  # by slot
        self._signals = StopSignals()
        self._failures = 0
        self._next_claim = self._next_heartbeat = self._next_refresh = 0.0

    def run(self) -> None:
        """Run until there is no trial left to claim.

        Raises:
            UserError: too many trials failed in a row.
            InterruptedSweepError: a signal ended the sweep; its running trials can be resumed.
        """
        with self._signals as signals, self.table.shown():
            try:
                while not signals.count:
                    try:
                        if self._step():
                            return
                    except STORAGE_ERRORS as error:
                        self.patience.wait(error)
                        continue
                    if self.patience.end_outage():
                        self.claims.forget_heartbeats()  # nobody could send any
                    time.sleep(POLL_SECONDS)
                raise InterruptedSweepError(signals.last)
            finally:
                self._stop_all()
                with contextlib.suppress(*STORAGE_ERRORS):
                    self.table.update()

    def _step(self) -> bool:
        """Do what is due; returns whether the sweep is done. Where the storage fails, it can be repeated."""
        self._handle_exits()
        nothing_to_claim = self._fill_slots()
        self._start_claimed()
        if nothing_to_claim and not self._jobs and not self.claims.should_wait():
            return True
        self._send_heartbeats()
        return False

    def _handle_exits(self) -> None:
        for slot, job in list(self._jobs.items()):
            code = job.running.poll() if job.running else None
            if code is not None:
                self._handle_exit(slot, job, code)
                self._next_claim = 0.0

    def _handle_exit(self, slot: int, job: _Job, code: int) -> None:
        outcome = self._recorded_outcome(job.claim) if was_interrupted(code) else None
        if outcome is None and was_interrupted(code) and not self.claims.is_ours(job.claim):
            self.claims.release(job.claim)  # another sweeper took it for interrupted
            del self._jobs[slot]
        elif outcome is None and was_interrupted(code) and self._count_stop(job.claim) <= self.retries:
            job.running = None
        else:
            self._finish(slot, outcome or failure(code, job.claim.folder))

    def _count_stop(self, claim: Claim) -> int:
        stored = self.claims.storage.trial(self.claims.study, claim.number)
        return count_stop(claim.trial, stored, claim.folder)

    def _fill_slots(self) -> bool:
        """Start a trial in a free slot; returns True if a slot is free and there is no trial to claim."""
        now = time.monotonic()
        free = [slot for slot in range(self.jobs) if slot not in self._jobs]
        if not free or now < self._next_claim:
            return False
        claim = self.claims.claim_next()
        if claim is None:
            self._next_claim = now + REFRESH_SECONDS  # a trial of another sweeper may be interrupted
            return True
        self._jobs[free[0]] = _Job(claim)
        return False

    def _start_claimed(self) -> None:
        for slot, job in list(self._jobs.items()):
            if job.running is not None:
                continue
            if outcome := self._recorded_outcome(job.claim):  # it ended, but its sweeper was killed first
                self._finish(slot, outcome)
                continue
            try:
                job.running = self.start(job.claim, slot)
            except UserError as error:
                self._finish(slot, Outcome(TrialState.FAIL, error=str(error)))
            self._next_refresh = 0.0

    def _finish(self, slot: int, outcome: Outcome) -> None:
        claim = self._jobs[slot].claim
        self.claims.finish(claim, *outcome)
        del self._jobs[slot]
        self._next_refresh = 0.0
        failed = outcome.state is TrialState.FAIL
        self._failures = self._failures + 1 if failed else 0
        if self._failures > self.max_failures:
            raise UserError(
                f"{self._failures} trials in a row failed, the last one with: {outcome.error} "
                f"({claim.folder}/stderr.log)"
            )

    def _recorded_outcome(self, claim: Claim) -> Outcome | None:
        stored = self.claims.storage.trial(self.claims.study, claim.number)
        return recorded_outcome(stored, claim.folder, self.objective)

    def _send_heartbeats(self) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat:
            for job in self._jobs.values():
                self.claims.send_heartbeat(job.claim)
            self._next_heartbeat = now + self.heartbeat
        if now >= self._next_refresh:
            self.table.update()
            self._next_refresh = now + REFRESH_SECONDS

    def _stop_all(self) -> None:
        """Stop the running trials and return them to the queue; a second signal kills them.

        The sweep may be stopping because its storage is gone.
        """
        ended = [self._jobs.pop(slot).claim for slot, job in list(self._jobs.items()) if job.running is None]
        running = {slot: job.running for slot, job in self._jobs.items() if job.running is not None}
        for one in running.values():
            one.interrupt()
        killed = False
        while self._jobs:
            for slot, job in list(self._jobs.items()):
                try:
                    has_ended = running[slot].poll() is not None
                except STORAGE_ERRORS:  # the storage takes no report, and the trial would wait for an answer
                    running[slot].kill()
                    continue
                if has_ended:
                    ended.append(job.claim)
                    del self._jobs[slot]
            if self._signals.count > 1 and not killed:
                killed = True
                for one in running.values():
                    one.kill()
            with contextlib.suppress(*STORAGE_ERRORS):
                self._send_heartbeats()
            time.sleep(POLL_SECONDS)
        for claim in ended:
            with contextlib.suppress(*STORAGE_ERRORS):  # the next sweeper finds the trial interrupted
                outcome = self._recorded_outcome(claim)
                if outcome is None:
                    self.claims.release(claim)
                else:
                    self.claims.finish(claim, *outcome)
