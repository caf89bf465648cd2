"""Plain multirun: a process for each job, failures and interruptions, and only what is missing."""

import os
import re
import signal
import subprocess
import sys

import pytest
from helpers import PATIENCE, ROOT
from helpers.sweeps import wait_for
from omegaconf import OmegaConf

from autocaption.errors import UserError
from autocaption.launch.job import Job, sanitised
from autocaption.runs.record import read
from autocaption.runs.run import Run

# A job without training, in a run folder as train.py has it.
JOB = """
import json, os, signal, sys
from pathlib import Path
from autocaption.cli import command
from autocaption.runs.run import Run

def main(config):
    folder = Path(config.run_dir)
    run = Run.start(folder, "train", "job", sys.argv[1:])
    with run.recorded():
        run.begin()
        with open(folder / "notes", "a") as file:
            wandb, threads = config.logger.wandb, os.environ["OMP_NUM_THREADS"]
            noted = config.seed, config.resume, wandb.name, wandb.group, threads, *config.tags
            print(os.getpid(), *noted, file=file)
        print("job", config.seed, "trains")
        fault = os.environ.get("FAULT")
        if fault == f"fail {config.seed}":
            raise ValueError("told to fail")
        if fault == f"wait {config.seed}":
            (folder / "waits").touch()
            try:
                signal.pause()
            except KeyboardInterrupt:
                sys.exit(130)
        tested = {"test/cider": config.seed / 4, "intervals": {"test/cider": [0.125, 0.875]}}
        (folder / "metrics.json").write_text(json.dumps({"val/bleu4": config.seed / 10, **tested}))
    if fault == f"late {config.seed}":
        sys.exit(1)

command(main, "train")
"""


@pytest.fixture
def start(tmp_path):
    """Starts a multirun over seeds; returns its process."""
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    started = []

    def start(*words, fault=""):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAULT": fault}
        environment.pop("OMP_NUM_THREADS", None)
        command = [sys.executable, "job.py", "-m", "seed=1,2,3", "hydra.sweep.dir=runs/multirun/m", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def notes(folder, number):
    """What the attempts of a job wrote down."""
    file = folder / f"runs/multirun/m/{number}/notes"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_jobs_are_processes_and_a_table_compares_them(start, tmp_path):
    process = start("data.batch_size=8", "test=false")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    attempts = [notes(tmp_path, number) for number in range(3)]
    assert [[attempt[1] for attempt in job] for job in attempts] == [["1"], ["2"], ["3"]]
    assert len({job[0][0] for job in attempts}) == 3
    assert [job[0][3:5] for job in attempts] == [[f"seed={n}", "m"] for n in (1, 2, 3)]
    assert len({read(tmp_path / f"runs/multirun/m/{n}")["id"] for n in range(3)}) == 3
    *table, folder = out.splitlines()
    rows = [row for line in table if len(row := line.split()) > 7 and row[1] in ("0", "1", "2")]
    assert [row[3] for row in rows] == ["1", "2", "3"]
    assert [row[5] for row in rows] == ["0.100", "0.200", "0.300"]
    assert [row[7] for row in rows] == ["0.250", "0.500", "0.750"]
    assert out.count("0.125\N{EN DASH}0.875") == 3
    assert folder.split() == ["runs", "runs/multirun/m"]
    assert "False" not in out  # test=false, which all have
    assert "job 2 trains" in out  # one at a time, so its output is shown


def test_a_failing_job_does_not_end_the_others(start, tmp_path):
    process = start("hydra.launcher.n_jobs=2", "tags=[job-${hydra:job.num}]", fault="fail 1")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (line,) = err.strip().splitlines()
    assert line.startswith("error: job 0 (seed=1): ValueError: told to fail")
    assert [notes(tmp_path, number)[0][6:] for number in range(3)] == [["job-0"], ["job-1"], ["job-2"]]
    assert [len(notes(tmp_path, number)) for number in range(3)] == [1, 1, 1]
    assert "failed" in out
    # Again, it does only what is missing.
    again = start()
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert [len(notes(tmp_path, number)) for number in range(3)] == [2, 1, 1]


THEIRS = ("seed=1", "optimizer.lr=0.1", "+model.x=2", "logger=csv", "data.root=/a", "hydra.sweep.dir=m")


@pytest.mark.parametrize(
    ("ours", "refused"),
    [
        ({}, ""),
        ({"logger": "none", "data.root": "/b", "cluster": "gpu", "hydra.launcher.n_jobs": "2"}, ""),
        ({"seed": "3"}, "another job: seed=1, and not seed=3; choose another hydra.sweep.dir"),
        ({"data.roots": "/b"}, "another job: none of these, and not data.roots=/b"),
    ],
)
def test_a_job_takes_no_other_job_s_run_for_its_own(tmp_path, ours, refused):
    run = Run.start(tmp_path / "0", "train", "job", THEIRS)
    run.end("failed", 1)
    run.release()
    by_hand = Run.start(tmp_path / "0", "train", "resumed", ["resume=m/0", "optimizer.lr=0.2"], resumes=True)
    by_hand.begin()
    by_hand.release()
    given = dict(word.split("=") for word in reversed(THEIRS)) | ours
    words = [f"{key}={value}" for key, value in given.items()]
    job = Job(0, words, [], tmp_path / "0", OmegaConf.create())
    job.require_its_folder()  # it left nothing that would count
    (tmp_path / "0/metrics.json").write_text('{"val/bleu4": 0.1}')
    if not refused:
        job.require_its_folder()
        return
    with pytest.raises(UserError, match=re.escape(refused)):
        job.require_its_folder()


def test_a_job_that_another_multirun_finished_first_is_no_failure(start, tmp_path):
    process = start(fault="late 2")  # as a process that found the run finished when it got to its folder
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert "0.200" in out


def test_ctrl_c_stops_the_jobs_and_says_how_to_resume(start, tmp_path):
    process = start("hydra.launcher.n_jobs=2", fault="wait 2")
    wait_for((tmp_path / "runs/multirun/m/1/waits").exists)
    wait_for(lambda: (tmp_path / "runs/multirun/m/2/metrics.json").exists())
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "hydra.sweep.dir=runs/multirun/m" in out
    assert [read(tmp_path / f"runs/multirun/m/{n}")["state"] for n in range(3)] == [
        "finished",
        "interrupted",
        "finished",
    ]
    again = start()
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert [len(notes(tmp_path, number)) for number in range(3)] == [1, 2, 1]


def test_jobs_at_a_time_share_the_cores(start, tmp_path):
    process = start(f"hydra.launcher.n_jobs={os.cpu_count()}")
    process.communicate(timeout=PATIENCE)
    assert notes(tmp_path, 0)[0][5] == "1"


def test_two_multiruns_never_share_a_folder(start, tmp_path):
    names = set()
    for _ in range(2):
        process = start("hydra.sweep.dir=${runs_dir}/multirun/${new_run_name:}", "seed=1")
        process.communicate(timeout=PATIENCE)
        names |= {entry.name for entry in (tmp_path / "runs/multirun").iterdir()}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("seed=1 optimizer.lr=0.1", "seed=1_optimizer.lr=0.1"),
        ("data.split=[a,b]", "data.split=_a_b"),
        ("a/b:c,d", "a_b_c_d"),
        ("///", "job"),
        ("x" * 200, "x" * 128),
    ],
)
def test_names_are_such_that_wandb_takes_them(name, clean):
    assert sanitised(name) == clean


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 0), (("hydra.sweep.subdir='x/${hydra.job.num}'",), 0), (("resume=x",), 1)],
    ids=["", "in folders of folders", "refused"],
)
def test_a_secret_is_written_nowhere(start, tmp_path, words, code):
    process = start("+logger.wandb.api_key=hunter2,hunter3", "seed=1", *words)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    assert code or "runs  runs/multirun/m\n" in out  # as hydra.sweep.dir, with which it is run again
    assert "hunter" not in out + err
    kept = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert [file for file in kept if b"hunter" in file.read_bytes()] == []
