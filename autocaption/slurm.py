"""The Slurm job that this process belongs to, if any; free of torch."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autocaption.errors import UserError

# Lightning's convention too: in a shell of an interactive job each command is a run of its own.
INTERACTIVE = ("bash", "interactive")
PATIENCE = 60  # seconds to wait for an answer of Slurm


def job_id() -> str | None:
    """`123`, or `123_4` in an array; None outside of a job, and in an interactive one."""
    if os.environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def ask(*command: str) -> tuple[str, str]:
    """What a command of Slurm prints, and in one line why it failed; the latter is empty where it did not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode == 0:
        return done.stdout, ""
    return "", " ".join(done.stderr.split()) or f"{command[0]} ended with exit code {done.returncode}"


def requeue_on(number: int) -> None:
    """Where a signal announced the time limit, put this job into the queue again.

    To be called when all is saved, just before the process ends; rank 0 does it. After a SIGTERM, as of a
    preemption or scancel, it is up to Slurm.
    """
    job = job_id() if number in (signal.SIGUSR1, signal.SIGUSR2) else None
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    if job is None or any(rank != "0" for rank in ranks):
        return
    _, failure = ask("scontrol", "requeue", job)
    said = f"job {job} was not requeued: {failure}" if failure else f"Job {job} is requeued and will resume."
    print(said, file=sys.stderr, flush=True)


def without_job(environment: dict[str, str]) -> dict[str, str]:
    """Environment variables for a process that is no task of this job: it starts its devices itself."""
    return {name: value for name, value in environment.items() if not _is_of_job(name)}


@contextmanager
def outside_job() -> Iterator[None]:
    """Hide this job from what is submitted within the block."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if _is_of_job(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def cluster_environment(devices: Any, nodes: int) -> list[Any]:
    """What Lightning's Trainer needs to know about this job, as plugins; nothing outside of one.

    Where srun started a task for each device, the tasks are the ranks. Where it started one, or the process
    was started without it, Lightning starts the other ranks of this machine. Lightning by itself takes one
    task for all of them, and hangs. Its own requeuing is turned off: `Preemption` saves better.

    Args:
        devices: `trainer.devices`.
        nodes: `trainer.num_nodes`.

    Raises:
        UserError: the tasks are neither one nor one a device.
    """
    from pytorch_lightning.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if job_id() is None or TorchElasticEnvironment.detect():  # torchrun within a job
        return []
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_STEP_ID" in os.environ else 1
    wanted = devices * nodes if isinstance(devices, int) and devices > 0 else None
    ask = f"trainer.devices={devices} trainer.num_nodes={nodes}"
    if tasks == 1 and (nodes == 1 or "NODE_RANK" in os.environ):
        return [LightningEnvironment()]
    if tasks == 1 or wanted not in (None, tasks):
        each = devices if wanted else "DEVICES"
        raise UserError(
            f"{ask} in {tasks} of Slurm's tasks; start one a device: "
            f"srun --nodes={nodes} --ntasks-per-node={each} python train.py ..."
        )
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(f"Lightning wants --ntasks-per-node={tasks // nodes}, beside or instead of --ntasks")
    return [SLURMEnvironment(auto_requeue=False)]


def _is_of_job(name: str) -> bool:
    # SLURM_CONF says where the cluster is, not which job this is.
    return name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")) and name != "SLURM_CONF"
