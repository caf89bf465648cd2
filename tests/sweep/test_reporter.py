"""How a trial's end is read from its folder and its attributes."""

import json
import re

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from autocaption.sweep.reporter import Outcome, StudyReporter, failure, outcome_so_far
from autocaption.sweep.study import ATTEMPT, EPOCHS, PRUNED

OBJECTIVE = ["val/bleu4", "val/loss"]


def outcome(folder, metrics=None, **attributes):
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    trial = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
    return outcome_so_far(trial, folder, OBJECTIVE)


def test_a_trial_without_metrics_has_not_ended(tmp_path):
    assert outcome(tmp_path) is None


def test_a_complete_trial_has_the_values_of_its_metrics(tmp_path):
    metrics = {"val/loss": 2.0, "val/bleu4": 0.5, "epochs": 3}
    assert outcome(tmp_path, metrics) == Outcome(TrialState.COMPLETE, [0.5, 2.0])


def test_a_pruned_trial_counts_as_pruned_whatever_it_left(tmp_path):
    found = outcome(tmp_path, {"val/loss": 2.0, "val/bleu4": 0.5}, **{PRUNED: 2})
    assert found.state is TrialState.PRUNED


@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        ({"val/loss": 1.0, "epochs": 2}, r"no metric val/bleu4 in .*metrics.json; there are val/loss$"),
        ({"val/loss": float("nan"), "val/bleu4": 0.5}, "val/loss is not a number"),
    ],
)
def test_missing_metrics_and_nan_are_failures(tmp_path, metrics, error):
    found = outcome(tmp_path, metrics)
    assert found.state is TrialState.FAIL
    assert re.search(error, found.error)


@pytest.mark.parametrize(("code", "error"), [(-9, "SIGKILL"), (0, "metrics.json"), (1, "boom")])
def test_a_failure_names_its_reason(tmp_path, code, error):
    (tmp_path / "stderr.log").write_text("error: boom\n")
    assert failure(code, tmp_path).state is TrialState.FAIL
    assert error in failure(code, tmp_path).error


class Below(optuna.pruners.BasePruner):
    """Prunes what is below a half."""

    def prune(self, study, trial):
        return trial.intermediate_values[trial.last_step] < 0.5


@pytest.fixture
def reporter():
    study = optuna.create_study(pruner=Below())
    trial = study.ask()
    trial.set_user_attr(ATTEMPT, 1)
    return StudyReporter(study, trial.number, attempt=1)


def test_values_are_stored_and_pruning_is_too(reporter):
    assert reporter.report(1, 0.75, False) is False
    assert reporter.report(2, 0.25, False) is True
    (trial,) = reporter.study.trials
    assert trial.intermediate_values == {1: 0.75, 2: 0.25}
    assert (trial.user_attrs[EPOCHS], trial.user_attrs[PRUNED]) == (2, 2)


def test_the_last_epoch_is_never_pruned(reporter):
    assert reporter.report(1, 0.25, True) is False
    assert PRUNED not in reporter.study.trials[0].user_attrs


def test_an_attempt_that_was_taken_over_stops_and_stores_nothing(reporter):
    late = StudyReporter(reporter.study, 0, attempt=0)
    assert late.report(1, 0.75, False) is True
    assert reporter.study.trials[0].intermediate_values == {}


def test_several_objectives_are_never_pruned():
    study = optuna.create_study(directions=["maximize", "minimize"], pruner=Below())
    trial = study.ask()
    trial.set_user_attr(ATTEMPT, 1)
    assert StudyReporter(study, trial.number, attempt=1).report(1, 0.0, False) is False
