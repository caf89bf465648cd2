"""Sweeps as a user runs them: processes, storage and pruner are real, trials are quick."""

import json
import os
import signal

import pytest
from helpers.sweeps import SEARCH, epochs, height, wait_for
from optuna.trial import TrialState

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
FAIL, WAITING = TrialState.FAIL, TrialState.WAITING


def recorded(study):
    """What a study knows of its trials, but for times and owners."""
    return [
        (trial.number, trial.state, trial.values, trial.params, trial.intermediate_values)
        for trial in study.trials
    ]


def test_the_same_command_runs_only_what_is_missing(sweeps):
    first = sweeps.run(*SEARCH, "data.batch_size=8", "sweep.n_trials=1")
    assert first.code == 0, first.err
    before = recorded(sweeps.study())
    more = sweeps.run(*SEARCH, "data.batch_size=8", "sweep.n_trials=3", faults='{"2": "error"}')
    assert more.code == 0, more.err
    study = sweeps.study()
    assert recorded(study)[:1] == before
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE, FAIL]
    assert [sweeps.notes(n).count("start 0") for n in range(3)] == [1, 1, 1]
    # The first trial is the configuration as it stands; every value is the one of its parameters.
    assert study.trials[0].params == {"optimizer.lr": 0.001, "model.decoder.dropout": 0.5}
    for trial in study.trials[:2]:
        assert trial.value == pytest.approx(height(*trial.params.values()))
    assert study.trials[2].user_attrs["error"] == "ValueError: trial 2 was told to fail"
    assert "trial 2 was told to fail" in more.out
    assert more.err == ""

    page = (sweeps.trial(0).parent / "report.html").read_text()
    for text in (
        "val/bleu4: history",
        "importances",
        "slices",
        "parallel",
        "told to fail",
        'href="trial_2/"',
    ):
        assert text in page
    best = ("--config-dir", sweeps.trial(0).parent, "experiment=best", "--cfg", "job")
    shown = sweeps.run(*best, multirun=False)
    assert shown.code == 0, shown.err
    assert f"lr: {study.best_params['optimizer.lr']}" in shown.out
    assert "batch_size: 8" in shown.out
    report = sweeps.report("sweep")
    assert report.returncode == 0, report.stderr
    assert report.stdout.strip().endswith("report.html")


def test_a_disturbed_sweep_has_the_trials_of_an_undisturbed_one(sweeps, tmp_path):
    words = [*SEARCH, "sweep.n_trials=5", "sweep.seed=2"]
    words += ["sweep.pruner.n_startup_trials=2", "sweep.sampler.n_startup_trials=2"]
    whole = sweeps.run(*words, "sweep.folder=whole")
    assert whole.code == 0, whole.err
    undisturbed = sweeps.study(storage=f"sqlite:///{tmp_path}/whole/study.db")
    # The sweeper is killed while trials 0 and 3 run; trial 1 is killed under a sweeper that lives.
    for number, epoch in ((0, 3), (3, 1)):
        faults = json.dumps({str(number): f"hang {epoch}", "1": "die 2"})
        process = sweeps.start(*words, faults=faults)
        wait_for(lambda number=number, epoch=epoch: f"kept {epoch}" in sweeps.notes(number))
        process.kill()
        process.wait()
    again = sweeps.run(*words)
    assert again.code == 0, again.err
    study = sweeps.study()
    assert recorded(study) == recorded(undisturbed)
    assert {trial.state for trial in study.trials} == {COMPLETE, PRUNED}
    # Interrupted trials went on from their checkpoint, in their folder.
    for number, epoch in ((0, 3), (1, 2), (3, 1)):
        assert f"start {epoch}" in sweeps.notes(number)
        ran = epochs(sweeps.notes(number))
        assert ran == list(range(1, len(ran) + 1))


def test_a_trial_that_reached_its_last_epoch_is_complete(sweeps):
    words = [*SEARCH, "sweep.n_trials=1", "sweep/pruner=none", "sweep.pruner._target_=spy.Axe"]
    for epochs_, state in ((2, COMPLETE), (3, PRUNED)):  # it prunes after the second
        name = f"of_{epochs_}"
        done = sweeps.run(*words, f"sweep.study_name={name}", f"trainer.max_epochs={epochs_}")
        assert done.code == 0, done.err
        assert [trial.state for trial in sweeps.study(name).trials] == [state]


def test_two_sweepers_share_a_study(sweeps):
    words = [*SEARCH, "sweep.n_trials=4", "sweep.n_jobs=1", "sweep/pruner=none"]
    both = [sweeps.start(*words) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    study = sweeps.study()
    assert [trial.state for trial in study.trials] == [COMPLETE] * 4
    for number in range(4):
        assert epochs(sweeps.notes(number)) == [1, 2, 3, 4]
    assert len({trial.user_attrs["owner"]["id"] for trial in study.trials}) == 2


def test_ctrl_c_leaves_trials_that_resume(sweeps):
    words = [*SEARCH, "sweep.n_trials=2", "sweep.n_jobs=2", "sweep/pruner=none"]
    process = sweeps.start(*words, faults='{"0": "hang 2", "1": "hang 3"}')
    wait_for(lambda: "kept 2" in sweeps.notes(0) and "kept 3" in sweeps.notes(1))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.count("interrupted") == 2  # the trials
    assert "Interrupted. Rerun the same command to resume." in out
    assert [trial.state for trial in sweeps.study().trials] == [WAITING, WAITING]
    assert sweeps.run(*words).code == 0
    assert [trial.state for trial in sweeps.study().trials] == [COMPLETE] * 2
    assert epochs(sweeps.notes(0)) == epochs(sweeps.notes(1)) == [1, 2, 3, 4]


def test_a_storage_that_fails_ends_the_trials_and_the_sweep_in_one_line(sweeps, tmp_path):
    words = [*SEARCH, "sweep.n_trials=2", "sweep.n_jobs=2", "sweep/pruner=none", "sweep.heartbeat=0.2"]
    process = sweeps.start(*words, faults='{"0": "hang 2", "1": "hang 3"}')
    wait_for(lambda: "kept 2" in sweeps.notes(0) and "kept 3" in sweeps.notes(1))
    file = sweeps.trial(0).parent / "study.db"
    os.replace(file, tmp_path / "whole.db")
    file.write_text("no database")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(err.strip().splitlines()) == 1, err
    assert "rerun the same command to resume" in err
    os.replace(tmp_path / "whole.db", file)
    again = sweeps.run(*words)
    assert again.code == 0, again.err
    assert [trial.state for trial in sweeps.study().trials] == [COMPLETE] * 2
    assert epochs(sweeps.notes(0)) == epochs(sweeps.notes(1)) == [1, 2, 3, 4]


@pytest.mark.slow  # the claims of a journal are tested beside SQLite's
def test_a_journal_file_as_storage(sweeps):
    words = [*SEARCH, "sweep.storage=journal:study.log", "sweep.n_trials=2"]
    process = sweeps.start(*words, faults='{"1": "hang 3"}')
    wait_for(lambda: "kept 3" in sweeps.notes(1))
    process.kill()
    process.wait()
    again = sweeps.run(*words)
    assert again.code == 0, again.err
    assert epochs(sweeps.notes(0)) == epochs(sweeps.notes(1)) == [1, 2, 3, 4]


def test_what_an_earlier_study_left_is_not_taken_for_a_result(sweeps):
    assert sweeps.run(*SEARCH, "sweep.n_trials=1").code == 0
    (sweeps.trial(0).parent / "study.db").unlink()
    assert sweeps.run(*SEARCH, "sweep.n_trials=1", "trainer.max_epochs=2").code == 0
    assert epochs(sweeps.notes(0)) == [1, 2]
    # Another search under the name of an existing study is refused.
    done = sweeps.run(*SEARCH, "sweep.n_trials=2", "trainer.max_epochs=2", "data.batch_size=7")
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1
    assert "data.batch_size=7" in done.err
    assert "sweep.study_name=sweep_2" in done.err


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_trials_as_jobs_of_a_launcher(sweeps, launcher):
    words = ["sweep.n_trials=2", "sweep.n_jobs=2", f"hydra/launcher={launcher}"]
    done = sweeps.run(*SEARCH, *words, faults='{"1": "error"}')
    assert done.code == 0, done.err
    study = sweeps.study()
    assert [trial.state for trial in study.trials] == [COMPLETE, FAIL]
    assert study.trials[1].user_attrs["error"] == "ValueError: trial 1 was told to fail"
    assert not list(sweeps.folder.rglob(".handed*"))  # it may hold secrets


MISTAKES = {
    "sweep.enqueue=[{optimzer.lr: 1}]": "optimzer.lr",
    "sweep.direction=[maximize,minimize]": "sweep.direction",
    "sweep.space={data.batch_size: 4}": "data.batch_size",
    "model/decoder=lstn": "lstm",
    "sweep.storage=nosuchdatabase://somewhere": "sweep.storage",
    "data=flickr8k": "data.root",
    "sweep.n_jobs=0": "sweep.n_jobs",
    "sweep.custom_space=no.such": "no.such",
    "optimizer.lrx=interval(0.1,1.0)": "optimizer.lrx",
    "sweep/sampler=grid": "range(START, STOP, STEP)",
}


@pytest.mark.parametrize(("word", "named"), MISTAKES.items())
def test_a_mistake_is_one_line(sweeps, word, named):
    done = sweeps.run(*SEARCH, word)
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert named in done.err


def test_sweep_without_multirun_is_one_line(sweeps):
    done = sweeps.run("sweep=show_and_tell", multirun=False)
    assert done.code == 1
    assert done.err.strip().endswith("add -m")
