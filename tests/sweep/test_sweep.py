"""Sweeps as a user runs them: the processes, storage and pruner are real, the trials are quick."""

import html
import json
import os
import signal

import pytest
from helpers import PATIENCE
from helpers.quick_trial import height
from helpers.scripts import run_here
from helpers.sweeps import PRUNE_AFTER_TWO, SEARCH, epochs, gpus, wait_for
from optuna.trial import TrialState

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
FAIL, WAITING = TrialState.FAIL, TrialState.WAITING


SECRET = "+data.source={password: 'hunter2, or so', seed: 0}"


def assert_nowhere(secret, folder, done):
    """The secret is in no file of the folder and nothing that the command printed."""
    assert secret not in done.out + done.err
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert [file for file in files if secret.encode() in file.read_bytes()] == []


def results(study):
    """What the study stores about its trials, except times and owners."""
    return [
        (trial.number, trial.state, trial.values, trial.params, trial.intermediate_values)
        for trial in study.trials
    ]


def test_the_same_command_runs_only_the_missing_trials(sweeps):
    first = sweeps.run(*SEARCH, "data.batch_size=8", "+data.source.password=hunter2", "sweep.n_trials=1")
    assert first.code == 0, first.err
    before = results(sweeps.study())
    again = [*SEARCH, "data.batch_size=8", "+data.source.password=hunter3"]  # a new password, the same study
    more = sweeps.run(*again, "sweep.n_trials=3", faults='{"2": "error"}')
    assert more.code == 0, more.err
    study = sweeps.study()
    assert results(study)[:1] == before
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE, FAIL]
    assert [sweeps.notes(n).count("start 0") for n in range(3)] == [1, 1, 1]
    # The first trial is the baseline; every value is the metric of the trial's parameters.
    assert study.trials[0].params == {"optimizer.lr": 0.001, "model.decoder.dropout": 0.5}
    for trial in study.trials[:2]:
        assert trial.value == pytest.approx(height(*trial.params.values()))
    error = study.trials[2].user_attrs["error"]
    assert error.startswith("ValueError: trial 2 failed as asked; the traceback is in ")
    assert "trial 2 failed as asked" in more.out
    assert more.err == ""

    page = (sweeps.trial(0).parent / "report.html").read_text()
    charts = ("val/bleu4: history", "importances", "slices", "parallel")
    for text in (*charts, "failed as asked", 'href="trial_2/"'):
        assert text in page
    best = ("--config-dir", sweeps.trial(0).parent, "experiment=best", "--cfg", "job")
    shown = sweeps.run(*best, multirun=False)
    assert shown.code == 0, shown.err
    assert f"lr: {study.best_params['optimizer.lr']}" in shown.out
    assert "batch_size: 8" in shown.out
    assert "command line: +data.source.password='<hidden>'" in html.unescape(page)
    for secret in ("hunter2", "hunter3"):
        assert_nowhere(secret, sweeps.folder, more)
    report = sweeps.report("sweep")
    assert report.returncode == 0, report.stderr
    assert report.stdout.strip().endswith("report.html")


def test_an_interrupted_sweep_ends_with_the_same_trials(sweeps, tmp_path):
    overrides = [*SEARCH, "sweep.n_trials=5", "sweep.seed=2"]
    overrides += ["sweep.pruner.n_startup_trials=2", "sweep.sampler.n_startup_trials=2"]
    whole = sweeps.run(*overrides, "sweep.folder=whole")
    assert whole.code == 0, whole.err
    uninterrupted = sweeps.study(storage=f"sqlite:///{tmp_path}/whole/study.db")
    # The sweeper is killed while trial 0 runs, then while trial 3 runs; trial 1 is killed alone.
    for number, epoch in ((0, 3), (3, 1)):
        faults = json.dumps({str(number): f"hang {epoch}", "1": "die 2"})
        process = sweeps.start(*overrides, faults=faults)
        wait_for(lambda number=number, epoch=epoch: f"saved {epoch}" in sweeps.notes(number))
        process.kill()
        process.wait()
    again = sweeps.run(*overrides)
    assert again.code == 0, again.err
    study = sweeps.study()
    assert results(study) == results(uninterrupted)
    assert {trial.state for trial in study.trials} == {COMPLETE, PRUNED}
    # The interrupted trials resumed from their checkpoint, in their folder.
    for number, epoch in ((0, 3), (1, 2), (3, 1)):
        assert f"start {epoch}" in sweeps.notes(number)
        ran = epochs(sweeps.notes(number))
        assert ran == list(range(1, len(ran) + 1))


def test_two_sweepers_share_a_study(sweeps):
    sweeps.environment |= {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "TMPDIR": str(sweeps.folder)}
    overrides = [*SEARCH, "trainer.devices=1,2", "trainer.accelerator=gpu"]
    overrides += ["sweep.n_trials=4", "sweep.n_jobs=1", "sweep/pruner=none"]
    both = [sweeps.start(*overrides) for _ in range(2)]
    ended = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sum("report  " in out for out, _ in ended) == 1  # the one that ended last
    report = (sweeps.trial(0).parent / "trials.json").read_text()
    study = sweeps.study()
    assert [trial["state"] for trial in json.loads(report)["trials"]] == ["COMPLETE"] * 4
    for trial in study.trials:  # on one GPU at a time, else it had failed
        assert len(gpus(sweeps.notes(trial.number))) == trial.params["trainer.devices"]
    assert [trial.state for trial in study.trials] == [COMPLETE] * 4
    for number in range(4):
        assert epochs(sweeps.notes(number)) == [1, 2, 3, 4]
    assert len({trial.user_attrs["owner"]["id"] for trial in study.trials}) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 143)])
def test_a_signal_leaves_trials_that_the_same_command_resumes(sweeps, number, code):
    overrides = [*SEARCH, "sweep.n_trials=2", "sweep.n_jobs=2", "sweep/pruner=none"]
    process = sweeps.start(*overrides, faults='{"0": "hang 2", "1": "hang 3"}')
    wait_for(lambda: "saved 2" in sweeps.notes(0) and "saved 3" in sweeps.notes(1))
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert out.endswith(f"Stopped by {number.name}. Rerun the same command to resume.\n")
    assert out.count("  interrupted") == 2
    assert [trial.state for trial in sweeps.study().trials] == [WAITING, WAITING]
    assert sweeps.run(*overrides).code == 0
    assert [trial.state for trial in sweeps.study().trials] == [COMPLETE] * 2
    assert epochs(sweeps.notes(0)) == epochs(sweeps.notes(1)) == [1, 2, 3, 4]


def test_a_failing_storage_ends_trials_and_sweep_with_one_line(sweeps, tmp_path):
    overrides = [
        *SEARCH,
        "sweep.n_trials=2",
        "sweep.n_jobs=2",
        "sweep/pruner=none",
        "sweep.heartbeat=0.2",
        "sweep.storage_timeout=0",
    ]
    process = sweeps.start(*overrides, faults='{"0": "hang 2", "1": "hang 3"}')
    wait_for(lambda: "saved 2" in sweeps.notes(0) and "saved 3" in sweeps.notes(1))
    file = sweeps.trial(0).parent / "study.db"
    os.replace(file, tmp_path / "whole.db")
    file.write_text("no database")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert len(err.strip().splitlines()) == 1, err
    assert "rerun the same command to resume" in err
    os.replace(tmp_path / "whole.db", file)
    again = sweeps.run(*overrides)
    assert again.code == 0, again.err
    assert [trial.state for trial in sweeps.study().trials] == [COMPLETE] * 2
    assert epochs(sweeps.notes(0)) == epochs(sweeps.notes(1)) == [1, 2, 3, 4]


@pytest.mark.slow  # test_claims.py tests a journal file's claims
def test_a_journal_file_as_storage(sweeps):
    overrides = [*SEARCH, "sweep.storage=journal:study.log", "sweep.n_trials=2"]
    process = sweeps.start(*overrides, faults='{"1": "hang 3"}')
    wait_for(lambda: "saved 3" in sweeps.notes(1))
    process.kill()
    process.wait()
    again = sweeps.run(*overrides)
    assert again.code == 0, again.err
    assert epochs(sweeps.notes(0)) == epochs(sweeps.notes(1)) == [1, 2, 3, 4]


def test_files_of_an_earlier_study_are_no_results_of_this_one(sweeps):
    assert sweeps.run(*SEARCH, "sweep.n_trials=1").code == 0
    (sweeps.trial(0).parent / "study.db").unlink()
    assert sweeps.run(*SEARCH, *PRUNE_AFTER_TWO, "sweep.n_trials=1", "trainer.max_epochs=2").code == 0
    assert epochs(sweeps.notes(0)) == [1, 2]
    # It reached its last epoch, so it is complete, whatever the pruner says.
    assert [trial.state for trial in sweeps.study().trials] == [COMPLETE]
    # Another search under the name of an existing study is refused.
    done = sweeps.run(*SEARCH, "sweep.n_trials=2", "trainer.max_epochs=2", "data.batch_size=7")
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1
    assert "data.batch_size=7" in done.err
    assert "sweep.study_name=sweep_2" in done.err


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_trials_as_jobs_of_a_launcher(sweeps, launcher):
    overrides = ["sweep.n_trials=3", "sweep.n_jobs=2", f"hydra/launcher={launcher}", SECRET]
    overrides += ["sweep/pruner=none"]
    done = sweeps.run(*SEARCH, *overrides, faults='{"1": "error", "2": "die 2"}')
    assert done.code == 0, done.out + done.err
    study = sweeps.study()
    assert [trial.state for trial in study.trials] == [COMPLETE, FAIL, COMPLETE]
    assert epochs(sweeps.notes(2)) == [1, 2, 3, 4]
    error = study.trials[1].user_attrs["error"]
    assert error.startswith("ValueError: trial 1 failed as asked; the traceback is in ")
    assert not list(sweeps.folder.rglob(".handed*"))  # it may hold secrets
    assert_nowhere("hunter2", sweeps.folder, done)


@pytest.mark.slow
def test_submitit_jobs_that_are_killed_or_requeued_resume(sweeps):
    overrides = ["sweep.n_trials=3", "sweep.n_jobs=3", "sweep/pruner=none", "hydra/launcher=submitit_local"]
    # The first job is killed, the second requeued on SIGUSR2, as before a time limit; the third's trial dies.
    faults = {"0": "signal 9 2", "1": "signal 12 3", "2": "die 1"}
    done = sweeps.run(*SEARCH, *overrides, faults=json.dumps(faults))
    assert done.code == 0, done.err
    assert [trial.state for trial in sweeps.study().trials] == [COMPLETE] * 3
    for number, epoch in enumerate((2, 3, 1)):
        assert f"start {epoch}" in sweeps.notes(number)
        assert epochs(sweeps.notes(number)) == [1, 2, 3, 4]
    assert not list(sweeps.folder.rglob(".handed*"))


MISTAKES = {  # overrides: what the error names
    "sweep.enqueue=[{optimzer.lr:1}]": "optimzer.lr",
    "sweep.direction=[maximize,minimize]": "sweep.direction",
    "sweep.space={data.batch_size:4}": "data.batch_size",
    "model/decoder=lstn": "lstm",
    "sweep.storage=nosuchdatabase://somewhere": "sweep.storage",
    "data=flickr8k": "data.root",
    "sweep.n_jobs=0": "sweep.n_jobs",
    "sweep.study_name=../../elsewhere": "sweep.study_name=../../elsewhere",
    "sweep.custom_space=no.such": "no.such",
    "optimizer.lrx=interval(0.1,1.0)": "optimizer.lrx",
    "sweep/sampler=grid": "range(START, STOP, STEP)",
    "sweep.objective=[val/bleu4,val/loss] sweep.direction=[maximize,minimize]": "sweep/pruner=none",
}


@pytest.mark.parametrize(("overrides", "hint"), MISTAKES.items())
def test_a_mistake_is_one_line(sweeps, monkeypatch, overrides, hint):
    monkeypatch.setattr("autocaption.sweep.databases.time.sleep", lambda seconds: None)
    monkeypatch.delenv("AUTOCAPTION_DATA", raising=False)
    done = run_here("quick.py", "-m", *SEARCH, *overrides.split(), cwd=sweeps.folder)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert hint in done.stderr


def test_sweep_without_multirun_is_one_line(sweeps):
    done = run_here("quick.py", "sweep=show_and_tell", cwd=sweeps.folder)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("add -m")
