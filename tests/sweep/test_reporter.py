"""What a trial's reports store in the study, and the outcome of a trial that ended."""

import contextlib
import json

import optuna
import pytest
from optuna.pruners import ThresholdPruner
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from autocaption.sweep.reporter import Outcome, StudyReporter, failure, recorded_outcome
from autocaption.sweep.storage import Storage

OBJECTIVE = ["val/bleu4", "val/loss"]


@pytest.fixture(params=[["maximize"]])
def trial(request):
    """A running trial and the reporter of its first attempt."""
    storage = Storage(InMemoryStorage(), contextlib.nullcontext, "")
    study = optuna.create_study(
        storage=storage.backend, directions=request.param, pruner=ThresholdPruner(lower=0.5)
    )
    study.ask()  # another trial, so that numbers and ids may differ
    trial = study.ask()
    trial.set_user_attr("attempt", 1)
    return trial, StudyReporter(storage, study, trial.number, attempt=1)


def stored(trial):
    return trial.study.trials[trial.number]


def test_reports_are_stored_and_pruned(trial):
    trial, reporter = trial
    assert not reporter.report(1, 0.75, last=False)
    assert stored(trial).intermediate_values == {1: 0.75}
    assert reporter.report(2, 0.25, last=False)
    assert stored(trial).intermediate_values == {1: 0.75, 2: 0.25}
    assert stored(trial).user_attrs["epochs"] == stored(trial).user_attrs["pruned"] == 2
    assert stored(trial).state is TrialState.RUNNING


def test_the_last_epoch_is_never_pruned(trial):
    trial, reporter = trial
    assert not reporter.report(2, 0.25, last=True)
    assert "pruned" not in stored(trial).user_attrs


def test_a_resumed_trial_may_report_an_epoch_again(trial):
    trial, reporter = trial
    reporter.report(1, 0.75, last=False)
    assert not reporter.report(1, 0.75, last=False)
    assert stored(trial).intermediate_values == {1: 0.75}


def test_reports_of_an_earlier_attempt_are_ignored(trial):
    trial, reporter = trial
    trial.set_user_attr("attempt", 2)
    assert not reporter.is_current()
    assert reporter.report(1, 0.75, last=False)  # so that it ends
    assert stored(trial).intermediate_values == {}
    assert "pruned" not in stored(trial).user_attrs


def test_a_trial_that_ended_takes_no_reports(trial):
    trial, reporter = trial
    trial.study.tell(trial, 0.5)
    assert reporter.report(1, 0.75, last=False)


@pytest.mark.parametrize("trial", [["maximize", "minimize"]], indirect=True)
def test_nothing_is_pruned_by_several_objectives(trial):
    trial, reporter = trial
    assert not reporter.report(1, 0.25, last=False)
    assert stored(trial).user_attrs["epochs"] == 1


def test_each_heartbeat_of_a_job_changes_the_trial(trial, monkeypatch):
    trial, reporter = trial
    for now in (1.0, 2.0):
        monkeypatch.setattr("autocaption.sweep.reporter.time.time", lambda now=now: now)
        reporter.send_heartbeat()
        assert stored(trial).user_attrs["beat"] == now


@pytest.mark.parametrize(
    ("metrics", "attrs", "outcome"),
    [
        (None, {}, None),
        (None, {"pruned": 3}, Outcome(TrialState.PRUNED)),
        ({"val/bleu4": 0.5, "val/loss": 1.5}, {"pruned": 3}, Outcome(TrialState.PRUNED)),
        ({"val/bleu4": 0.5, "val/loss": 1.5, "epochs": 2}, {}, Outcome(TrialState.COMPLETE, [0.5, 1.5])),
        (
            {"val/bleu4": 0.5, "val/loss": float("nan")},
            {},
            Outcome(TrialState.FAIL, error="val/loss is not a number"),
        ),
        (
            {"val/bleu4": 0.5, "val/perplexity": 9.0, "epochs": 2},
            {},
            Outcome(
                TrialState.FAIL,
                error="no metric val/loss in {}/metrics.json; there are val/bleu4, val/perplexity",
            ),
        ),
    ],
)
def test_the_recorded_outcome(tmp_path, metrics, attrs, outcome):
    if metrics is not None:
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    found = recorded_outcome(create_trial(state=TrialState.RUNNING, user_attrs=attrs), tmp_path, OBJECTIVE)
    assert found == (outcome and outcome._replace(error=outcome.error.format(tmp_path)))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (-9, "stopped by SIGKILL again and again without getting further"),
        (143, "stopped by SIGTERM again and again without getting further"),
        (137, "stopped by SIGKILL again and again without getting further"),
        (0, "it ended without metrics.json again and again"),
        (1, "ValueError: bad"),
    ],
)
def test_a_failure_names_its_cause(tmp_path, code, error):
    (tmp_path / "stderr.log").write_text("Traceback\nValueError: bad\n")
    assert failure(code, tmp_path) == Outcome(TrialState.FAIL, None, error)
