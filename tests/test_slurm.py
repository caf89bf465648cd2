"""Runs as jobs of a real Slurm: preempted and requeued, in arrays, on several devices, in sweeps."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.commands import TINY, read, run
from helpers.interruptions import assert_same
from helpers.slurm import Cluster, is_installed
from helpers.sweeps import wait_for

pytestmark = pytest.mark.slurm
WORDS = [*TINY, "trainer.log_every_n_steps=1", "model.decoder.dropout=0.3", "data/augment=crop_and_flip"]
WORDS += ["data.source.train=48", "trainer.max_epochs=6", "callbacks.last.every_n_steps=2"]
HALTS = "+callbacks.halt={_target_: helpers.interruptions.Halt, folder: '${run_dir}', step: 20}"
SMALL = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null"]
LONG = 300  # seconds


@pytest.fixture(scope="module")
def cluster():
    if not is_installed():
        pytest.skip("no Slurm here, or not root (Debian: apt install slurmctld slurmd slurm-client munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, for the sockets
    cluster = Cluster(folder)
    cluster.environment |= {
        "PATH": f"{Path(sys.executable).parent}:{cluster.environment['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",
    }
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture
def submit(cluster, tmp_path):
    """Submits docs/train.sbatch, or the lines of another script; returns the job's id."""
    (tmp_path / "train.py").symlink_to(ROOT / "train.py")

    def submit(*words, options=(), script=None):
        file = ROOT / "docs/train.sbatch"
        if script is not None:
            file = tmp_path / "script"
            file.write_text("#!/bin/bash\n" + script)
        options = ["--cpus-per-task=1", "--gpus-per-node=0", "--output=%j.out", *options]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            return cluster.call("sbatch", "--parsable", *options, file, *words).strip()

    yield submit
    cluster.call("scancel", "--user=root", check=False)


@pytest.fixture
def multirun(cluster, tmp_path):
    """Starts `train.py -m`, which submits jobs and waits for them."""
    started = []

    def start(*words):
        command = [sys.executable, ROOT / "train.py", "-m", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=cluster.environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    cluster.call("scancel", "--user=root", check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs outside of Slurm, by seed."""
    made = {}

    def whole(seed):
        if seed not in made:
            folder = tmp_path_factory.mktemp(f"whole_{seed}")
            done = run("train.py", *WORDS, f"seed={seed}", cwd=folder)
            assert done.returncode == 0, done.stderr
            (made[seed],) = (folder / "runs").iterdir()
        return made[seed]

    return whole


def halted(folder):
    """Wait until Halt holds a run of this folder; returns the run folder."""
    wait_for(lambda: list(folder.glob("**/halted")), LONG)
    return next(iter(folder.glob("**/halted"))).parent


def states(folder):
    return [attempt["state"] for attempt in read(folder / "run.json")["attempts"]]


def assert_one_wandb_run(folder):
    segments = [path.name for path in (folder / "wandb").glob("offline-run-*")]
    assert len(segments) >= 2
    assert {name.rpartition("-")[2] for name in segments} == {read(folder / "run.json")["id"]}


PREEMPTIONS = {
    "its time limit is near": lambda job: ["scancel", "--signal=USR1", job],
    "it is requeued": lambda job: ["scontrol", "requeue", job],
}


@pytest.mark.parametrize("preempt", PREEMPTIONS.values(), ids=PREEMPTIONS)
def test_a_preempted_job_ends_as_if_nothing_had_happened(cluster, submit, tmp_path, whole, preempt):
    job = submit(*WORDS, HALTS)
    folder = halted(tmp_path)
    cluster.call(*preempt(job))
    cluster.wait(job, "COMPLETED", "FAILED", seconds=LONG)
    assert cluster.state(job) == "COMPLETED", (tmp_path / f"{job}.out").read_text()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    assert folder.name.startswith(f"slurm_{job}_")
    assert states(folder) == ["preempted", "finished"]
    _, again = read(folder / "run.json")["attempts"]
    assert again["step"] == 20
    assert_same(folder, whole(0))
    assert_one_wandb_run(folder)


def test_a_preempted_job_of_an_array_ends_as_if_nothing_had_happened(cluster, multirun, tmp_path, whole):
    process = multirun("cluster=cpu", *SMALL, *WORDS, "seed=0,1", HALTS, "hydra.sweep.dir=runs/m")
    for number in range(2):
        wait_for((tmp_path / f"runs/m/{number}/halted").exists, LONG)
    job = (tmp_path / "runs/m/1/.slurm_job").read_text().split()[0]
    assert job.endswith("_1")
    cluster.call("scancel", "--signal=USR1", job)
    (tmp_path / "runs/m/0/go").touch()
    _, err = process.communicate(timeout=LONG)
    assert (process.returncode, err) == (0, "")
    assert [states(tmp_path / f"runs/m/{n}") for n in range(2)] == [["finished"], ["preempted", "finished"]]
    assert read(tmp_path / "runs/m/1/run.json")["attempts"][1]["step"] == 20
    for seed in range(2):
        assert_same(tmp_path / f"runs/m/{seed}", whole(seed))
    assert_one_wandb_run(tmp_path / "runs/m/1")
    assert not list(tmp_path.rglob(".job_config.json"))  # it may hold secrets
    # Again, it finds nothing to do.
    again = multirun("cluster=cpu", *SMALL, *WORDS, "seed=0,1", HALTS, "hydra.sweep.dir=runs/m")
    again.communicate(timeout=LONG)
    assert (again.returncode, len(states(tmp_path / "runs/m/1"))) == (0, 2)


def test_a_signal_before_the_training_kills_no_job(cluster, submit, tmp_path):
    job = submit(*WORDS, "data.source._target_=helpers.interruptions.source_that_waits")
    wait_for(lambda: list(tmp_path.glob("loading")), LONG)
    cluster.call("scancel", "--signal=USR1", job)
    cluster.wait(job, "COMPLETED", "FAILED", seconds=LONG)
    assert cluster.state(job) == "COMPLETED"
    (folder,) = (tmp_path / "runs").iterdir()
    assert states(folder) == ["preempted", "finished"]


def test_a_cancelled_job_saves_and_stays_out_of_the_queue(cluster, submit, tmp_path):
    job = submit(*WORDS, HALTS, "data.num_workers=2")
    folder = halted(tmp_path)
    cluster.call("scancel", job)
    cluster.wait(job, "CANCELLED", seconds=LONG)
    wait_for(lambda: read(folder / "run.json")["state"] == "preempted")
    assert (folder / "checkpoints/last.ckpt").exists()


SCRIPTS = {
    "one task": "srun python train.py $WORDS trainer=ddp_sim",
    "a task each": "srun --ntasks=2 --ntasks-per-node=2 python train.py $WORDS trainer=ddp_sim",
    "without srun": "python train.py $WORDS trainer=ddp_sim",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_two_devices(cluster, submit, tmp_path, script):
    words = " ".join([*TINY, "logger=csv", "trainer.max_epochs=1"])
    tasks = "--ntasks-per-node=2" if "ntasks" in script else "--ntasks-per-node=1"
    job = submit(options=[tasks], script=script.replace("$WORDS", words))
    cluster.wait(job, "COMPLETED", "FAILED", seconds=LONG)
    assert cluster.state(job) == "COMPLETED", next(tmp_path.glob("*.out")).read_text()
    (folder,) = (tmp_path / "runs").iterdir()
    assert (states(folder), read(folder / "metrics.json")["steps"]) == (["finished"], 2)


def test_two_commands_of_a_job_are_two_runs_and_a_finished_one_is_not_repeated(cluster, submit, tmp_path):
    words = " ".join([*TINY, "logger=csv", "trainer.max_epochs=1"])
    halt = shlex.quote(HALTS.replace("step: 20", "step: 1"))
    job = submit(script=f"srun python train.py {words} seed=1\nsrun python train.py {words} seed=2 {halt}")
    folder = halted(tmp_path)
    cluster.call("scancel", "--signal=USR1", job)
    cluster.wait(job, "COMPLETED", "FAILED", seconds=LONG)
    found = sorted(states(entry) for entry in (tmp_path / "runs").iterdir())
    assert found == [["finished"], ["preempted", "finished"]]
    assert states(folder) == ["preempted", "finished"]


@pytest.mark.parametrize("given", [(), ("hydra.sweep.dir=runs/multirun/mine",)], ids=["its own", "given"])
def test_a_multirun_within_a_job_resumes_its_jobs_in_its_folder(cluster, submit, tmp_path, given):
    job = submit("-m", *TINY, "logger=csv", "seed=1,2", HALTS.replace("step: 20", "step: 4"), *given)
    folder = halted(tmp_path)
    cluster.call("scancel", "--signal=USR1", job)
    wait_for(lambda: read(folder / "run.json")["state"] == "preempted", LONG)
    (tmp_path / "go").touch()
    cluster.wait(job, "COMPLETED", "FAILED", seconds=LONG)
    assert cluster.state(job) == "COMPLETED"
    (root,) = (tmp_path / "runs/multirun").iterdir()
    assert root.name.startswith("mine" if given else f"slurm_{job}_")
    assert states(root / "0") == ["preempted", "finished"]
    assert states(root / "1")[-1] == "finished"


def test_tasks_of_an_array_that_share_a_sweep_dir_never_share_a_run(cluster, submit, tmp_path):
    words = ("-m", *TINY, "logger=csv", "seed=1,2", "hydra.sweep.dir=runs/m")
    array = submit(*words, options=["--array=0-1"])
    for task in range(2):
        cluster.wait(f"{array}_{task}", "COMPLETED", "FAILED", seconds=LONG)
    # Each job has been run once, by one of the tasks; where both wanted it, one may have been refused.
    assert [states(tmp_path / f"runs/m/{n}") for n in range(2)] == [["finished"]] * 2
    said = "".join(file.read_text() for file in tmp_path.glob("*.out"))
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert all("another process is running" in line for line in errors), said


def test_a_preempted_trial_of_a_sweep_resumes(cluster, multirun, tmp_path):
    process = multirun(
        *("sweep=default", "optimizer.lr=interval(1e-3,1e-2)", "sweep.n_trials=2", "sweep.n_jobs=2"),
        *("cluster=cpu", *SMALL, *WORDS, "logger=csv", "sweep/pruner=none", HALTS),
    )
    trials = [tmp_path / f"runs/sweeps/sweep/trial_{number}" for number in range(2)]
    for trial in trials:
        wait_for((trial / "halted").exists, LONG)
    cluster.call("scancel", "--signal=USR1", (trials[1] / ".slurm_job").read_text().split()[0])
    (trials[0] / "go").touch()
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    assert [states(trial) for trial in trials] == [["finished"], ["preempted", "finished"]]
    assert read(trials[1] / "run.json")["attempts"][1]["step"] == 20
    assert not list(tmp_path.rglob(".handed*"))


def test_ctrl_c_ends_the_wait_and_not_the_jobs(cluster, multirun, tmp_path):
    words = ("cluster=cpu", *SMALL, *TINY, "logger=csv", HALTS.replace("step: 20", "step: 1"))
    process = multirun(*words, "hydra.sweep.dir=runs/m")
    folder = halted(tmp_path)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    job = (folder / ".slurm_job").read_text().split()[0]
    assert process.returncode == 130
    assert f"scancel {job}" in out
    again = multirun(*words, "hydra.sweep.dir=runs/m")
    line = again.stdout.readline()
    assert job in line  # the same one
    (folder / "go").touch()
    _, err = again.communicate(timeout=LONG)
    assert (again.returncode, states(folder)) == (0, ["finished"]), err


def test_a_job_that_slurm_loses_ends_the_wait(cluster, multirun, tmp_path):
    words = (*TINY, "logger=csv", HALTS.replace("step: 20", "step: 1"))
    process = multirun("cluster=cpu", *SMALL, *words, "hydra.sweep.dir=runs/m")
    folder = halted(tmp_path)
    os.kill(read(folder / "run.json")["attempts"][0]["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 1
    (line,) = err.strip().splitlines()
    assert "was lost" in line


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["hydra.launcher.partition=nosuch"], "partition"), (["cluster=gpu", "trainer.devices=auto"], "auto")],
)
def test_what_slurm_refuses_is_one_line(multirun, words, hint):
    process = multirun("cluster=cpu", *TINY, *words)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 1
    line = err.strip().splitlines()[-1]  # sbatch writes some of its own above
    assert line.startswith("error: ")
    assert hint in line
