"""Trials as jobs of a launcher: the job's file, and its exit code."""

import signal
import stat
import sys
import threading
from types import SimpleNamespace

import pytest
from helpers.quick_trial import save
from helpers.sweeps import wait_for
from hydra.core.hydra_config import HydraConfig

from autocaption.sweep.claims import Claims
from autocaption.sweep.launcher import JobSettings, LaunchedTrial, run_job, write_job
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.trials import Prepared

DEFINITION = {"objective": ["val/bleu4"], "direction": ["maximize"]}


@pytest.fixture
def claims(tmp_path):
    storage = open_storage(f"journal:{tmp_path}/study.log")
    study = open_study(storage, "study", DEFINITION, [], [])
    return Claims(study, storage, tmp_path, 3, 60.0, local=False)


def settings(tmp_path):
    pruner = {"_target_": "optuna.pruners.NopPruner"}
    return JobSettings("no_such_script.py", f"journal:{tmp_path}/study.log", "study", pruner, 60.0, 0.0)


class Launcher:
    """Runs a function as the job."""

    def __init__(self, job):
        self.job, self.launched = job, []

    def launch(self, overrides, number):
        self.launched.append((overrides, number))
        return [SimpleNamespace(return_value=self.job())]


def code(trial):
    wait_for(lambda: trial.poll() is not None)
    return trial.poll()


def test_the_job_s_file_can_be_read_by_the_user_only(claims, tmp_path):
    claim = claims.claim_next()
    write_job(Prepared(["seed=1"], {"logger": {"api_key": "secret"}}), claim, settings(tmp_path))
    (file,) = claim.folder.glob(".handed*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_job_whose_trial_has_had_another_attempt_does_nothing(claims, tmp_path, monkeypatch):
    claim = claims.claim_next()
    write_job(Prepared([], {}), claim, settings(tmp_path))
    claims.release(claim)
    again = claims.claim_next()
    again.lock.close()
    runtime = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(claim.folder)))
    monkeypatch.setattr(HydraConfig, "get", lambda: runtime)
    assert run_job(SimpleNamespace(attempt=1)) == 0
    assert not list(claim.folder.glob(".handed*"))
    assert not (claim.folder / "stderr.log").exists()


def run(claim, monkeypatch, code):
    """Run the trial's job, whose process ends at once; returns the configuration that the process got."""
    got = []

    def process(script, overrides, config, *_):
        got.append(config)
        return SimpleNamespace(poll=lambda: code, interrupt=got.append)

    monkeypatch.setattr("autocaption.sweep.launcher.Process", process)
    runtime = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(claim.folder)))
    monkeypatch.setattr(HydraConfig, "get", lambda: runtime)
    claim.lock.close()
    assert run_job(SimpleNamespace(attempt=claim.attempt)) == code
    return got[0]


def test_a_job_that_is_started_again_resumes_and_ends_without_leaving_its_file(claims, tmp_path, monkeypatch):
    claim = claims.claim_next()
    trainer = {"accelerator": "cpu", "devices": 1}
    write_job(Prepared([], {"trainer": trainer, "resume": None}), claim, settings(tmp_path))
    assert run(claim, monkeypatch, code=143)["resume"] is None
    save(claim.folder, 1)
    assert run(claim, monkeypatch, code=-9)["resume"] == str(claim.folder / "checkpoints/last.ckpt")
    assert list(claim.folder.glob(".handed*"))
    run(claim, monkeypatch, code=0)
    assert not list(claim.folder.glob(".handed*"))


def test_a_new_attempt_removes_what_a_killed_job_left(claims, tmp_path):
    claim = claims.claim_next()
    write_job(Prepared([], {}), claim, settings(tmp_path))
    claims.release(claim)
    write_job(Prepared([], {}), claims.claim_next(), settings(tmp_path))
    assert [file.name for file in claim.folder.glob(".handed*")] == [".handed_2.json"]


def test_a_job_that_its_launcher_ends_lets_the_trial_save(claims, tmp_path, monkeypatch):
    claim, signals = claims.claim_next(), []

    class Process:
        def __init__(self, *_):
            pass

        def poll(self):
            if not signals:
                sys.exit(-1)  # as submitit's handler does
            return 143

        def interrupt(self, number):
            signals.append(number)

    config = {"trainer": {"accelerator": "cpu", "devices": 1}}
    write_job(Prepared([], config), claim, settings(tmp_path))
    monkeypatch.setattr("autocaption.sweep.launcher.Process", Process)
    runtime = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(claim.folder)))
    monkeypatch.setattr(HydraConfig, "get", lambda: runtime)
    claim.lock.close()
    with pytest.raises(SystemExit):
        run_job(SimpleNamespace(attempt=1))
    assert signals == [signal.SIGTERM]
    assert list(claim.folder.glob(".handed*"))


def test_a_job_gets_the_trial_s_folder_and_returns_its_exit_code(claims, tmp_path):
    claim = claims.claim_next()
    launcher = Launcher(lambda: 3)
    assert code(LaunchedTrial(launcher, claim, ["seed=1"])) == 3
    folder = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=trial_0", "+attempt=1"]
    assert launcher.launched == [([["seed=1", *folder]], 0)]
    assert claim.lock.closed


def test_a_job_that_ends_late_leaves_the_next_attempt_its_file(claims, tmp_path):
    claim = claims.claim_next()
    write_job(Prepared([], {}), claim, settings(tmp_path))

    def job():
        claims.release(claim)  # it was taken for interrupted
        write_job(Prepared([], {}), claims.claim_next(), settings(tmp_path))
        return 1

    assert code(LaunchedTrial(Launcher(job), claim, [])) == 1
    assert [file.name for file in claim.folder.glob(".handed*")] == [".handed_2.json"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])  # the latter would end a thread without a word
def test_a_lost_job_counts_as_killed(claims, error):
    def lost():
        raise error("several lines\nnode failed")

    claim = claims.claim_next()
    assert code(LaunchedTrial(Launcher(lost), claim, [])) == -9
    assert (claim.folder / "stderr.log").read_text() == "the job was lost: node failed\n"


def test_interrupting_ends_the_wait_for_a_job(claims):
    job_ends = threading.Event()
    trial = LaunchedTrial(Launcher(job_ends.wait), claims.claim_next(), [])
    assert trial.poll() is None
    trial.interrupt()
    assert trial.poll() == -2
    job_ends.set()
