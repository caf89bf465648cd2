"""The loop of a sweep: start trials, await them, retry killed ones."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from autocaption.errors import UserError
from autocaption.launch.process import Running
from autocaption.launch.signals import StopSignals
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.reporter import Outcome, failure, recorded_outcome, stopping_signal
from autocaption.sweep.storage import STORAGE_ERRORS
from autocaption.sweep.study import KILLS
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
    running: Running


class Sweeper:
    """Runs the missing trials of a sweep, the next one as soon as a slot is free.

    Args:
        claims: the source of trials.
        start: starts a claimed trial in a slot (0 to jobs - 1).
        table: shows the trials.
        objective: the metrics that become a trial's values.
        jobs: how many trials run at a time.
        max_failures: how many trials in a row may fail before the sweep stops.
        retries: how often a killed trial is restarted.
        heartbeat: seconds between two heartbeats.
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
    ) -> None:
        self.claims, self.start, self.table, self.objective = claims, start, table, objective
        self.jobs, self.max_failures, self.retries, self.heartbeat = jobs, max_failures, retries, heartbeat
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
                    self._handle_exits()
                    nothing_to_claim = self._fill_slots()
                    if nothing_to_claim and not self._jobs and not self.claims.should_wait():
                        return
                    self._send_heartbeats()
                    time.sleep(POLL_SECONDS)
                raise InterruptedSweepError(signals.last)
            finally:
                self._stop_all()
                self.table.update()

    def _handle_exits(self) -> None:
        for slot, job in list(self._jobs.items()):
            code = job.running.poll()
            if code is not None:
                del self._jobs[slot]
                self._next_claim = 0.0
                self._handle_exit(job.claim, code, slot)

    def _handle_exit(self, claim: Claim, code: int, slot: int) -> None:
        outcome = self._recorded_outcome(claim) if code == 0 else None
        if outcome is None and stopping_signal(code) and self._count_kill(claim) <= self.retries:
            self._start(claim, slot)
            return
        self._finish(claim, outcome or failure(code, claim.folder))

    def _count_kill(self, claim: Claim) -> int:
        kills = claim.trial.user_attrs.get(KILLS, 0) + 1
        claim.trial.set_user_attr(KILLS, kills)
        return kills

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
        if outcome := self._recorded_outcome(claim):  # the trial ended, but its sweeper was killed first
            self._finish(claim, outcome)
        else:
            self._start(claim, free[0])
        return False

    def _start(self, claim: Claim, slot: int) -> None:
        try:
            self._jobs[slot] = _Job(claim, self.start(claim, slot))
        except UserError as error:
            self._finish(claim, Outcome(TrialState.FAIL, error=str(error)))
        self._next_refresh = 0.0

    def _finish(self, claim: Claim, outcome: Outcome) -> None:
        self.claims.finish(claim, *outcome)
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
        """Stop the running trials and return them to the queue; a second signal kills them."""
        for job in self._jobs.values():
            job.running.interrupt()
        ended, killed = [], False
        while self._jobs:
            for slot, job in list(self._jobs.items()):
                with contextlib.suppress(*STORAGE_ERRORS):  # the sweep may be stopping because of one
                    if job.running.poll() is not None:
                        ended.append(self._jobs.pop(slot).claim)
            if self._signals.count > 1 and not killed:
                killed = True
                for job in self._jobs.values():
                    job.running.kill()
            with contextlib.suppress(*STORAGE_ERRORS):
                self._send_heartbeats()
            time.sleep(POLL_SECONDS)
        for claim in ended:
            outcome = self._recorded_outcome(claim)
            if outcome is None:
                self.claims.release(claim)
            else:
                self.claims.finish(claim, *outcome)
