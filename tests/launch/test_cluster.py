"""Jobs on a cluster, with stand-ins for sbatch, squeue and scancel; tests/test_slurm.py has the real ones."""

import json
import os
import stat
import subprocess
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from autocaption.errors import UserError
from autocaption.launch import array, cluster
from autocaption.launch.job import Job
from autocaption.runs.run import Run

pytest.importorskip("submitit")
SCRIPTS = {
    "srun": "",
    "sbatch": 'cp "$1" batch; env > environment; echo Submitted batch job 7',
    "squeue": "test ! -e killed || exit 137; test ! -e down || { echo no contact >&2; exit 1; }; cat queue",
    "scancel": 'test ! -e down || { echo no contact >&2; exit 1; }; echo "$@" > cancelled',
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder that the stand-ins work in; its file `queue` lists the jobs."""
    (tmp_path / "bin").mkdir()
    for name, script in SCRIPTS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "queue").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.0)
    return tmp_path


@pytest.fixture
def settings(tmp_path):
    return {"submitit_folder": f"{tmp_path}/.submitit/%j", "nodes": 1, "timeout_min": 10, "partition": None}


def task(folder):
    folder.mkdir(exist_ok=True)
    return cluster.Task(["true"], str(folder), {})


def attempt(folder, code):
    """What an attempt at a run leaves."""
    run = Run.start(folder, "train", "job", resumes=True)
    run.begin()
    run.end("failed" if code else "finished", code)
    run.release()


def test_several_tasks_are_an_array_that_knows_nothing_of_this_job(slurm, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    options = {"signal": "USR1@120", "requeue": True}
    jobs = cluster.submit(
        [task(tmp_path / "a"), task(tmp_path / "b")],
        settings | {"additional_parameters": options},
        cluster.Queue(),
    )
    assert [job.id for job in jobs] == ["7_0", "7_1"]
    assert (tmp_path / "b/.slurm_job").read_text() == "7_1 0\n"
    script = (slurm / "batch").read_text().splitlines()
    assert {"#SBATCH --array=0-1%2", "#SBATCH --signal=USR1@120", "#SBATCH --requeue"} <= set(script)
    assert "SLURM_JOB_ID" not in (slurm / "environment").read_text()
    assert os.environ["SLURM_JOB_ID"] == "1"


def test_a_job_has_ended_once_the_queue_has_forgotten_it_twice(slurm, tmp_path):
    job = cluster.SlurmJob("7", tmp_path / "run", 0, cluster.Queue())
    (slurm / "queue").write_text("7\n8_1\n")
    assert job.poll() is None
    (slurm / "queue").write_text("8_1\n")
    assert job.poll() is None  # it may be on its way back into the queue
    (slurm / "queue").write_text("7\n")
    assert job.poll() is None
    (slurm / "queue").write_text("")
    assert [job.poll(), job.poll()] == [None, -9]  # it left nothing


def test_the_exit_code_is_that_of_the_run_s_last_attempt(slurm, tmp_path):
    attempt(tmp_path / "run", 1)
    job = cluster.SlurmJob("7", tmp_path / "run", 1, cluster.Queue())
    assert [job.poll(), job.poll()] == [None, -9]  # not that of an attempt before it
    attempt(tmp_path / "run", 0)
    assert job.poll() == 0


def test_a_queue_that_does_not_answer_is_waited_for_up_to_a_limit(slurm, monkeypatch):
    queue = cluster.Queue()
    (slurm / "queue").write_text("7\n")
    assert queue.holds("7")
    (slurm / "down").touch()
    assert queue.holds("7")
    monkeypatch.setattr(cluster, "GIVE_UP_SECONDS", -1.0)
    with pytest.raises(UserError, match="no contact; its jobs go on"):
        queue.holds("7")


def test_a_squeue_that_was_killed_is_no_empty_queue(slurm):
    queue = cluster.Queue()
    (slurm / "queue").write_text("7\n")
    assert queue.holds("7")
    (slurm / "killed").touch()
    assert queue.holds("7")


def test_a_job_that_slurm_does_not_cancel_is_named(slurm, tmp_path, monkeypatch, capsys):
    (slurm / "down").touch()
    cluster.SlurmJob("7_1", tmp_path / "run", 0, cluster.Queue()).kill()
    assert capsys.readouterr().err == "job 7_1 was not cancelled: no contact\n"

    def timeout(command, **_):
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr("subprocess.run", timeout)
    cluster.SlurmJob("7_1", tmp_path / "run", 0, cluster.Queue()).kill()
    assert "timed out" in capsys.readouterr().err


def test_interrupting_cancels(slurm, tmp_path):
    cluster.SlurmJob("7_1", tmp_path / "run", 0, cluster.Queue()).interrupt()
    assert (slurm / "cancelled").read_text() == "7_1\n"


@pytest.mark.parametrize(
    ("change", "hint"), [({"gpus_per_node": "auto"}, "trainer.devices=N"), ({"nosuch": 1}, "nosuch")]
)
def test_a_setting_that_slurm_cannot_take_is_named(slurm, settings, tmp_path, change, hint):
    with pytest.raises(UserError, match=hint):
        cluster.submit([task(tmp_path / "a")], settings | change, cluster.Queue())


def test_an_array_takes_over_jobs_of_an_earlier_command_and_submits_the_others(
    slurm, settings, tmp_path, monkeypatch
):
    def job(number):
        config = {"hydra": {"launcher": settings}, "logger": {"key": "hunter2"}}
        return Job(number, ["seed=1"], [f"seed={number}"], tmp_path / str(number), OmegaConf.create(config))

    jobs = [job(number) for number in range(3)]
    (tmp_path / "0").mkdir()
    (tmp_path / "0/.slurm_job").write_text("6 0\n")
    (slurm / "queue").write_text("6\n7\n")
    attempt(tmp_path / "1", 0)  # finished

    def end(_):
        """What a job does: it finishes, and leaves the queue."""
        file = tmp_path / "2/.job_config.json"
        if file.exists():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert json.loads(file.read_text())["run_dir"] == str(tmp_path / "2")
            for number in (0, 2):
                attempt(tmp_path / str(number), 0)
            (slurm / "queue").write_text("")

    monkeypatch.setattr(array, "time", SimpleNamespace(sleep=end))
    assert array.run(jobs, Console(quiet=True)) == 0
    assert [job.error for job in jobs] == ["", "", ""]
    assert (tmp_path / "2/.slurm_job").read_text() == "7 0\n"
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()]
    assert kept == []
