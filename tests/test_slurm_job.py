"""What a run does in a Slurm job, without Slurm: its variables, and a stand-in for scontrol."""

import os
import signal
import sys

import pytest
from helpers import ROOT
from helpers.commands import TINY, Command, only_run, read
from helpers.sweeps import wait_for
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment

from autocaption import slurm
from autocaption.errors import UserError
from autocaption.runs.folder import new_run_name

HALT = "+callbacks.halt={_target_: helpers.interruptions.Halt, folder: '${run_dir}', step: 2}"


@pytest.fixture
def job(monkeypatch):
    """Sets Slurm's variables, in place of those of a job that the tests may run in."""
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)

    def job(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))
        new_run_name.cache_clear()

    yield job
    new_run_name.cache_clear()


def tasks(count, **others):
    return {"JOB_ID": 12, "STEP_ID": 0, "STEP_NUM_TASKS": count, "NTASKS": count, **others}


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "expected"),
    [
        ({}, 2, 1, []),
        (tasks(1), 1, 1, [LightningEnvironment]),
        (tasks(1), 2, 1, [LightningEnvironment]),  # Lightning would wait for another task for ever
        (tasks(1), "auto", 1, [LightningEnvironment]),
        ({"JOB_ID": 12, "NTASKS": 2}, 2, 1, [LightningEnvironment]),  # without srun
        (tasks(2, NTASKS_PER_NODE=2), 2, 1, [SLURMEnvironment]),
        (tasks(4, NTASKS_PER_NODE=2), 2, 2, [SLURMEnvironment]),
        (tasks(2, NTASKS_PER_NODE=2), "auto", 1, [SLURMEnvironment]),
        (tasks(2, JOB_NAME="bash"), 2, 1, []),
    ],
)
def test_the_tasks_are_the_ranks_where_there_is_one_a_device(job, variables, devices, nodes, expected):
    job(**variables)
    found = slurm.cluster_environment(devices, nodes)
    assert [type(one) for one in found] == expected
    assert not any(getattr(one, "auto_requeue", False) for one in found)


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "hint"),
    [
        (tasks(1), 2, 2, "--nodes=2 --ntasks-per-node=2"),
        (tasks(2, NTASKS_PER_NODE=2), 1, 1, "--ntasks-per-node=1"),
        (tasks(2), 2, 1, "--ntasks-per-node=2"),
    ],
)
def test_other_tasks_are_refused_with_what_to_do(job, variables, devices, nodes, hint):
    job(**variables)
    with pytest.raises(UserError, match=hint):
        slurm.cluster_environment(devices, nodes)


def test_the_run_s_name_follows_from_the_job_and_the_command(job, monkeypatch):
    names = []
    for variables, argv in [
        ({"JOB_ID": "13"}, ["/a/train.py", "seed=1"]),
        ({"JOB_ID": "13"}, ["/b/train.py", "seed=1"]),
        ({"JOB_ID": "13"}, ["train.py", "seed=2"]),
        ({"JOB_ID": "14", "ARRAY_JOB_ID": "13", "ARRAY_TASK_ID": "1"}, ["train.py", "seed=1"]),
    ]:
        job(**variables)
        monkeypatch.setattr(sys, "argv", argv)
        names.append(new_run_name())
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert [name.rpartition("_")[0] for name in names] == ["slurm_13", "slurm_13", "slurm_13", "slurm_13_1"]
    job(JOB_NAME="interactive")
    assert not new_run_name().startswith("slurm")


def test_a_process_that_is_started_knows_nothing_of_the_job():
    variables = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "1", "SLURM_CONF": "/c", "CUDA_VISIBLE_DEVICES": "1"}
    assert slurm.without_job(variables) == {"SLURM_CONF": "/c", "CUDA_VISIBLE_DEVICES": "1"}


def start(folder, *words):
    """A training in job 12, where scontrol writes down what it is asked."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol\n')
    (folder / "bin/scontrol").chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
        **{"SLURM_JOB_ID": "12", "PATH": f"{folder}/bin:{os.environ['PATH']}"},
        **{"PYTHONPATH": f"{ROOT}:{ROOT}/tests", "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
    }
    return Command(ROOT / "train.py", [*TINY, "logger=csv", *words], folder, environment)


@pytest.mark.slow  # as is the same on a real cluster (-m slurm)
def test_a_requeued_job_resumes_its_run_and_a_finished_one_is_left_alone(tmp_path):
    process = start(tmp_path, HALT, "data.num_workers=2")
    wait_for(lambda: list(tmp_path.glob("runs/*/halted")))
    os.killpg(process.pid, signal.SIGTERM)  # Slurm signals DataLoader workers, too
    _, err = process.communicate()
    assert process.returncode == 143, err
    assert not (tmp_path / "scontrol").exists()  # a preemption or scancel: Slurm requeues, or not
    process = start(tmp_path, HALT, "data.num_workers=2")
    _, err = process.communicate()
    assert process.returncode == 0, err
    first, second = read(only_run(tmp_path) / "run.json")["attempts"]
    assert (first["state"], second["state"], second["step"]) == ("preempted", "finished", 2)
    again = start(tmp_path, HALT, "data.num_workers=2")
    _, err = again.communicate()
    assert again.returncode == 0, err
    assert len(read(only_run(tmp_path) / "run.json")["attempts"]) == 2


def test_the_signal_before_a_time_limit_requeues_also_before_the_training(tmp_path):
    process = start(tmp_path, "data.source._target_=helpers.interruptions.source_that_waits")
    wait_for((tmp_path / "loading").exists)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate()
    assert process.returncode == 143, err
    assert "Job 12 is requeued" in err
    assert (tmp_path / "scontrol").read_text() == "requeue 12\n"
    assert read(only_run(tmp_path) / "run.json")["state"] == "preempted"
