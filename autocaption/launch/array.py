"""`train.py -m` on a Slurm cluster: an array of jobs."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from autocaption.files import write_private_json
from autocaption.launch.cluster import Queue, SlurmJob, Task, submit, submitted_before
from autocaption.launch.job import Job
from autocaption.launch.parent import JOB_CONFIG
from autocaption.launch.process import last_error_line
from autocaption.launch.signals import StopSignals
from autocaption.runs.provenance import hide_argument
from autocaption.runs.run import STOPPED

CONFIG_FILE = ".job_config.json"  # in the run folder, until the job has ended; it may hold secrets
TICK = 0.2  # seconds between two looks for a signal


def run(jobs: Sequence[Job], console: Console) -> int:
    """Submit the jobs that are missing, as one array for each demand on Slurm, and wait until they end.

    Jobs that an earlier command has submitted are waited for. A signal ends the wait, not the jobs.

    Returns:
        the signal, or 0.
    """
    queue = Queue()
    running: list[tuple[Job, SlurmJob]] = []
    missing: dict[str, list[Job]] = {}  # by what they ask of Slurm
    for job in jobs:
        if before := submitted_before(job.folder, queue):
            running.append((job, before))
        elif job.is_missing():
            missing.setdefault(json.dumps(_settings(job)), []).append(job)
    for settings, some in missing.items():
        running += zip(some, submit([_task(job) for job in some], json.loads(settings), queue), strict=True)
    for job, process in running:
        line = f"job {job.number}  {job.differs}  in Slurm {process.id}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    with StopSignals() as signals:
        while running and not signals.count:
            time.sleep(TICK)
            running = [pair for pair in running if not _ended(*pair)]
    if running:
        ids = " ".join(process.id for _, process in running)
        console.print(f"The jobs go on; to end them: scancel {ids}", soft_wrap=True, highlight=False)
    return signals.last


def _task(job: Job) -> Task:
    config, file = job.resolved(), (job.folder / CONFIG_FILE).absolute()
    write_private_json(file, config)
    command = [sys.executable, os.path.abspath(sys.argv[0]), *map(hide_argument, job.overrides)]
    return Task(command, str(job.folder.absolute()), {JOB_CONFIG: str(file), "PYTHONUNBUFFERED": "1"})


def _settings(job: Job) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(job.config.hydra.launcher, resolve=True)
    return settings


def _ended(job: Job, process: SlurmJob) -> bool:
    code = process.poll()
    if code is None:
        return False
    if code < 0:
        logs = Path(str(job.config.hydra.sweep.dir)) / ".submitit"
        job.error = f"Slurm's job {process.id} was lost; what Slurm says is in {logs}"
    elif code in STOPPED:
        job.error = "it was stopped and not requeued; rerun with the same hydra.sweep.dir to resume it"
    elif code:
        job.error = last_error_line(job.folder)
    (job.folder / CONFIG_FILE).unlink(missing_ok=True)
    return True
