"""`train.py -m`: each job a process of its own, as many at a time as asked for."""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from autocaption.checks import whole
from autocaption.launch.devices import reserved, threads, visible_gpus
from autocaption.launch.job import Job, job_of
from autocaption.launch.process import Process, last_error_line
from autocaption.launch.signals import StopSignals
from autocaption.report.score_tables import fits, score_cell, score_tables
from autocaption.runs.folder import removed_where_unused
from autocaption.runs.provenance import command_line
from autocaption.runs.run import PreemptedError

TICK = 0.05  # seconds between two looks at the processes
TESTED = ("cider", "bleu4")  # of a test, beside the optimized metric


def launch(
    context: HydraContext,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    initial_index: int,
    run: Callable[[list[Job], Console], int],
) -> list[JobReturn]:
    """Run the jobs of a multirun that have not finished, and print a table of all.

    A job that fails doesn't end the others. Run again with the same hydra.sweep.dir, it does what is missing:
    finished jobs are skipped, interrupted ones resume from their last checkpoint.

    Args:
        context: Hydra's context.
        config: composed from what the jobs have in common.
        job_overrides: the command line of each job.
        initial_index: the number of the first one.
        run: runs those that are missing; returns the signal that ended it early, or 0.

    Exits with 1 where a job failed, with 130 or 143 where a signal ended the multirun.
    """
    console = Console()
    numbered = enumerate(job_overrides, initial_index)
    folder = Path(str(config.hydra.sweep.dir))
    if command_line() != sys.argv:  # Hydra wrote the overrides, and there is a secret among them
        (folder / "multirun.yaml").unlink(missing_ok=True)
    with removed_where_unused(folder):
        jobs = [job_of(context, config, number, list(overrides)) for number, overrides in numbered]
        for job in jobs:
            job.require_its_folder()
        stopped = run(jobs, console)
    metric = str(jobs[0].config.optimized_metric)
    for table in _tables(jobs, metric, console.width):
        console.print(table)
    console.print(f"runs  {folder}", soft_wrap=True, highlight=False, markup=False)
    if stopped:
        name = signal.Signals(stopped).name
        console.print(f"Stopped by {name}. Rerun with the same hydra.sweep.dir to resume:", highlight=False)
        console.print(f"  hydra.sweep.dir={folder}", soft_wrap=True, markup=False)
        raise PreemptedError(stopped)
    failed = [job for job in jobs if job.error]
    for job in failed:
        print(f"error: job {job.number} ({job.differs}): {job.error} ({job.folder})", file=sys.stderr)
    if failed:
        sys.exit(1)
    return [
        JobReturn(
            overrides=job.overrides,
            cfg=job.config,
            working_dir=str(job.folder),
            status=JobStatus.COMPLETED,
            _return_value=job.metrics().get(metric),
        )
        for job in jobs
    ]


class Processes:
    """Runs jobs on this machine, `n_jobs` at a time; the output of one that runs alone is shown."""

    def __init__(self, jobs: list[Job], n_jobs: int, console: Console) -> None:
        self.jobs, self.console = jobs, console
        self.n_jobs = whole("hydra.launcher.n_jobs", n_jobs, 1)
        self._signals, self._gpus = StopSignals(), visible_gpus()

    def run(self) -> int:
        """The signal that ended it early, or 0."""
        slots: dict[int, Job] = {}
        waiting = list(self.jobs)
        passed_on = 0
        with self._signals as signals:
            while slots or (waiting and not signals.count):
                for slot in range(self.n_jobs):
                    if slot not in slots and not signals.count and (job := _next_missing(waiting)):
                        slots[slot] = self._start(job)
                time.sleep(TICK)
                if signals.count > passed_on:
                    passed_on = signals.count
                    for job in slots.values():
                        self._stop(job)
                for slot, job in list(slots.items()):
                    if self._ended(job):
                        del slots[slot]
        return signals.last

    def _start(self, job: Job) -> Job:
        config = job.resolved()
        self.console.print(f"job {job.number}  {job.differs}", highlight=False, markup=False)
        trainer = job.config.trainer
        with reserved(self._gpus, trainer.accelerator, trainer.devices, self.n_jobs) as (devices, locks):
            environment = {**threads(self.n_jobs), **devices}
            job.process = Process(
                sys.argv[0], job.overrides, config, job.folder, _NoReports(), environment, locks
            )
        return job

    def _stop(self, job: Job) -> None:
        assert job.process is not None
        if self._signals.count > 1:
            job.process.kill()
        else:
            job.process.interrupt(self._signals.last)

    def _ended(self, job: Job) -> bool:
        assert job.process is not None
        code = job.process.poll()
        if self.n_jobs == 1:
            self._show(job)
        if code is None:
            return False
        if code and not self._signals.count and job.is_missing():  # no other multirun has it, or had it first
            job.error = last_error_line(job.folder)
        return True

    def _show(self, job: Job) -> None:
        with open(job.folder / "stdout.log", "rb") as file:
            file.seek(job.printed)
            new = file.read()
        job.printed += len(new)
        sys.stdout.write(new.decode(errors="replace"))
        sys.stdout.flush()


def _next_missing(waiting: list[Job]) -> Job | None:
    """The next job that is missing by now: another multirun may share the folder."""
    while waiting:
        if (job := waiting.pop(0)).is_missing():
            return job
    return None


class _NoReports:
    def report(self, epoch: int, value: float, last: bool) -> bool:
        return False


def _tables(jobs: Sequence[Job], metric: str, width: int) -> list[Table]:
    """The jobs with their overrides, the optimized metric, and the test's where there are any."""
    keys = list(dict.fromkeys(part.partition("=")[0] for job in jobs for part in job.own))
    tested = (f"{key.partition('/')[0]}/{name}" for job in jobs for key in _intervals(job) for name in TESTED)
    shown = dict.fromkeys([metric, *(key for key in tested if any(key in job.metrics() for job in jobs))])
    cells, stacked = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    for job in jobs:
        given = dict(part.partition("=")[::2] for part in job.own)
        scores = {key: score_cell(job.metrics().get(key), _intervals(job).get(key)) for key in shown}
        scores[metric] = scores[metric] or (job.error and "failed")
        if job.folder.name != str(job.number):
            scores["folder"] = job.folder.name
        cells[str(job.number)] = {**{key: given.get(key, "") for key in keys}, **scores}
        stacked[str(job.number)] = {"overrides": "\n".join(job.own), **scores}
    return score_tables("job", cells if fits("job", cells, width) else stacked, "", width)


def _intervals(job: Job) -> dict[str, Sequence[float]]:
    return job.metrics().get("intervals") or {}
