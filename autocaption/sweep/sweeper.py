import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from autocaption.errors import UserError
from autocaption.launch.process import Running
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.internals import storage_of, trial_id
from autocaption.sweep.reporter import Outcome, failure, outcome_so_far
from autocaption.sweep.storage import FAILURES
from autocaption.sweep.study import KILLS
from autocaption.sweep.table import SweepTable

TICK = 0.05  # seconds between two polls of the processes
REFRESH = 1.0  # seconds between two updates of the table


class InterruptedSweepError(Exception):
    """Ctrl-C, or a signal that asks the sweep to stop."""


@dataclass
class _Job:
    claim: Claim
    running: Running


class Sweeper:
    """Runs the missing trials of a sweep: the next one as soon as a slot is free.

    Args:
        claims: gives trials.
        start: starts a claimed trial in a slot (0 to jobs - 1).
        table: shows the trials.
        objective: the metrics that are a trial's values.
        jobs: trials at a time.
        max_failures: failed trials in a row after which the sweep stops.
        retries: of a trial that is killed.
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
        self._failures = self._signals = 0
        self._next_claim = self._next_beat = self._next_refresh = 0.0

    def run(self) -> None:
        """Run until no trial is missing.

        Raises:
            UserError: too many trials failed in a row.
            InterruptedSweepError: a signal stopped the sweep; its running trials can be resumed.
        """
        with self._catching_signals(), self.table.shown():
            try:
                while not self._signals:
                    self._reap()
                    if self._fill() and not self._jobs and not self.claims.may_be_orphaned():
                        return
                    self._send_heartbeats()
                    time.sleep(TICK)
                raise InterruptedSweepError
            finally:
                self._end_all()
                self.table.update()

    def _reap(self) -> None:
        for slot, job in list(self._jobs.items()):
            code = job.running.poll()
            if code is not None:
                del self._jobs[slot]
                self._next_claim = 0.0
                self._ended(job.claim, code, slot)

    def _ended(self, claim: Claim, code: int, slot: int) -> None:
        outcome = self._outcome(claim) if code == 0 else None
        if outcome is None and code < 0 and self._kills(claim) <= self.retries:
            self._start(claim, slot)
            return
        self._finish(claim, outcome or failure(code, claim.folder))

    def _kills(self, claim: Claim) -> int:
        kills = claim.trial.user_attrs.get(KILLS, 0) + 1
        claim.trial.set_user_attr(KILLS, kills)
        return kills

    def _fill(self) -> bool:
        """Start a trial if a slot is free; returns whether a slot is free and no trial is missing."""
        now = time.monotonic()
        free = [slot for slot in range(self.jobs) if slot not in self._jobs]
        if not free or now < self._next_claim:
            return False
        claim = self.claims.take()
        if claim is None:
            self._next_claim = now + REFRESH  # another process may release one
            return True
        if outcome := self._outcome(claim):  # it ended after its sweeper was killed
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

    def _outcome(self, claim: Claim) -> Outcome | None:
        frozen = storage_of(self.claims.study).get_trial(trial_id(claim.trial))
        return outcome_so_far(frozen, claim.folder, self.objective)

    def _send_heartbeats(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            for job in self._jobs.values():
                self.claims.send_heartbeat(job.claim)
            self._next_beat = now + self.heartbeat
        if now >= self._next_refresh:
            self.table.update()
            self._next_refresh = now + REFRESH

    def _end_all(self) -> None:
        """Interrupt the running trials and release them."""
        for job in self._jobs.values():
            job.running.interrupt()
        ended, killed = [], False
        while self._jobs:
            for slot, job in list(self._jobs.items()):
                with contextlib.suppress(*FAILURES):  # the storage may be what failed
                    if job.running.poll() is not None:
                        ended.append(self._jobs.pop(slot).claim)
            if self._signals > 1 and not killed:
                killed = True
                for job in self._jobs.values():
                    job.running.kill()
            with contextlib.suppress(*FAILURES):
                self._send_heartbeats()
            time.sleep(TICK)
        for claim in ended:
            outcome = self._outcome(claim)
            if outcome is None:
                self.claims.release(claim)
            else:
                self.claims.finish(claim, *outcome)

    @contextlib.contextmanager
    def _catching_signals(self) -> Iterator[None]:
        def count(number: int, frame: Any) -> None:
            self._signals += 1

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
