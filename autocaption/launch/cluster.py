"""Processes as jobs of a Slurm cluster: submitted through submitit, watched with squeue.

submitit writes the batch script, and starts each task with srun. The rest of it is left out: a task turns at
once into the process that it is for, so that signals reach that one alone, and a job counts as ended once
squeue has forgotten it, since sacct answers only where accounting is on.
"""

import getpass
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.files import write_text
from autocaption.runs.record import read
from autocaption.slurm import ask, outside_job

LOOK_SECONDS = 5.0  # between two looks at the queue
GIVE_UP_SECONDS = 900.0  # without an answer from it
JOB_FILE = ".slurm_job"  # in a run folder: the last job that was submitted for it, and the attempts before it
# Settings that submitit knows for all clusters; the others have Slurm's prefix.
SHARED = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")

# The latter is a setting of submitit's own launcher, which our file of that name inherits in Hydra 1.3.
UNUSED = ("_target_", "max_num_timeout")


@dataclass(frozen=True)
class Task:
    """What a job runs: it turns into the command, whose output goes to stdout.log and stderr.log."""

    command: Sequence[str]
    folder: str
    environment: Mapping[str, str]

    def __call__(self) -> None:
        """Become the command."""
        for name, number in (("stdout.log", 1), ("stderr.log", 2)):
            file = os.open(Path(self.folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(file, number)
        os.execvpe(self.command[0], list(self.command), {**os.environ, **self.environment})


class Queue:
    """The jobs of this user that have not ended, as squeue lists them."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._seen = self._looked = float("-inf")
        self.looks = 0  # that were answered

    def holds(self, job: str) -> bool:
        """Whether the job waits, runs or ends.

        Raises:
            UserError: Slurm has not answered for too long; its jobs go on.
        """
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)
        return job in self._ids

    def _look(self, now: float) -> None:
        first, self._looked = self._seen == float("-inf"), now
        listed, failure = ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i")
        if not failure:
            self._ids, self._seen, self.looks = set(listed.split()), now, self.looks + 1
        elif first or now - self._seen > GIVE_UP_SECONDS:
            raise UserError(
                f"Slurm doesn't answer: {failure}; its jobs go on, so rerun the same command later"
            )


class SlurmJob:
    """A job, as a process that runs elsewhere.

    Args:
        id: `123`, or `123_4` in an array.
        folder: the run folder that it works in.
        attempts: how many the run had when the job was submitted.
        queue: where it is listed until it has ended.
    """

    def __init__(self, id: str, folder: Path, attempts: int, queue: Queue) -> None:
        self.id, self.folder, self._attempts, self._queue = id, folder, attempts, queue
        self._missing_since = 0  # looks at the queue; a job that is requeued may be missing for a moment

    def poll(self) -> int | None:
        """None while it waits or runs, also again, then the run's exit code; -9 if it was lost."""
        if self._queue.holds(self.id):
            self._missing_since = 0
            return None
        self._missing_since = self._missing_since or self._queue.looks
        if self._queue.looks < self._missing_since + 1:
            return None
        record = read(self.folder)
        if record is None or len(record["attempts"]) == self._attempts:
            return -signal.SIGKILL
        return record["attempts"][-1].get("exit_code", -signal.SIGKILL)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Cancel it: a run saves and ends as preempted, one that waits leaves the queue."""
        self.kill()

    def kill(self) -> None:
        """Cancel it; Slurm itself kills what does not end."""
        _, failure = ask("scancel", self.id)
        if failure:
            print(f"job {self.id} was not cancelled: {failure}", file=sys.stderr, flush=True)


def submit(tasks: Sequence[Task], settings: Mapping[str, Any], queue: Queue) -> list[SlurmJob]:
    """Submit tasks, as an array where they are several.

    Args:
        tasks: what the jobs run.
        settings: `hydra.launcher`, in submitit's words.
        queue: watches them.

    Raises:
        UserError: submitit isn't installed, or Slurm refuses the jobs.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("hydra/launcher=submitit_slurm needs `pip install 'autocaption[sweep]'`") from None
    settings = {key: value for key, value in settings.items() if key not in UNUSED and value is not None}
    for name in ("gpus_per_node", "tasks_per_node"):
        if not isinstance(value := settings.get(name, 0), int):
            raise UserError(f"hydra.launcher.{name}={value}: Slurm wants a number; set trainer.devices=N")
    folder = settings.pop("submitit_folder")
    named = {key if key in SHARED else f"slurm_{key}": value for key, value in settings.items()}
    # Slurm may send a signal before the process can handle it.
    python = f"env --ignore-signal=USR1 --ignore-signal=USR2 {shlex.quote(sys.executable)}"
    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_python=python)
        executor.update_parameters(**named)
        with outside_job(), executor.batch():
            jobs = [executor.submit(task) for task in tasks]
        ids = [job.job_id for job in jobs]
    except (RuntimeError, ValueError, NameError, AssertionError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        line = next((one for one in lines if "error: " in one), lines[0] if lines else repr(error))
        raise UserError(f"Slurm takes no job: {line}; change hydra.launcher, or cluster=...") from None
    return [_submitted(id, Path(task.folder), queue) for id, task in zip(ids, tasks, strict=True)]


def submitted_before(folder: Path, queue: Queue) -> SlurmJob | None:
    """The job that was submitted for a run folder and has not ended, if there is one."""
    file = folder / JOB_FILE
    if not file.exists():
        return None
    id, attempts = file.read_text().split()
    return SlurmJob(id, folder, int(attempts), queue) if queue.holds(id) else None


def _submitted(id: str, folder: Path, queue: Queue) -> SlurmJob:
    record = read(folder)
    attempts = len(record["attempts"]) if record else 0
    write_text(folder / JOB_FILE, f"{id} {attempts}\n")
    return SlurmJob(id, folder, attempts, queue)
