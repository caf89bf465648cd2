"""The sweep on the terminal: a live table, or a line for each change of a trial's state."""

import datetime
import io

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from autocaption.sweep.table import SweepTable


def trial(state, seconds=None, **settings):
    trial = create_trial(
        state=state,
        params={"optimizer.lr": 0.00123456},
        distributions={"optimizer.lr": FloatDistribution(0, 1)},
        **settings,
    )
    if seconds:
        trial.datetime_complete = trial.datetime_start + datetime.timedelta(seconds=seconds)
    return trial


@pytest.fixture
def study():
    study = optuna.create_study(direction="maximize")
    study.add_trial(trial(TrialState.COMPLETE, 60, value=0.25, user_attrs={"epochs": 4}))
    study.add_trial(trial(TrialState.PRUNED, 120, value=0.125))
    study.add_trial(trial(TrialState.RUNNING, intermediate_values={1: 0.1, 2: 0.0625}))
    study.add_trial(trial(TrialState.WAITING, user_attrs={"interrupted": "now"}))
    return study


def table(study, terminal):
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)
    return SweepTable(study, ["val/bleu4"], 6, 2, console), console


def test_a_terminal_gets_a_table(study):
    shown, console = table(study, terminal=True)
    with shown.shown():
        pass
    text = console.file.getvalue()
    for cells in (
        ["trial", "state", "val/bleu4", "lr", "epochs", "time"],
        ["0 *", "complete", "0.25", "0.001235", "4", "0:01:00"],
        ["1", "pruned", "0.125", "0.001235", "0:02:00"],
        ["2", "running", "0.0625"],
        ["3", "interrupted"],
    ):
        assert any(all(cell in line for cell in cells) for line in text.splitlines()), cells
    assert "2 of 6 finished; time left: 0:03:00" in text  # 4 trials of 90 seconds, 2 at a time


def test_a_file_gets_a_line_for_each_change(study):
    shown, console = table(study, terminal=False)
    with shown.shown():
        shown.update()
        shown.update()
        first = console.file.getvalue()
        study.tell(2, state=TrialState.FAIL)
        shown.update()
    new = console.file.getvalue().removeprefix(first)
    lines = [line.split("  ", 1)[1] for line in first.splitlines()]  # without the time of day
    assert lines == [
        "trial 0  complete  0.25  lr 0.001235",
        "trial 1  pruned  0.125  lr 0.001235",
        "trial 2  running  0.0625  lr 0.001235",
    ]
    assert [line.split("  ", 1)[1] for line in new.splitlines()] == ["trial 2  failed  0.0625  lr 0.001235"]


def test_without_a_finished_trial_the_time_left_is_unknown():
    shown, console = table(optuna.create_study(), terminal=True)
    with shown.shown():
        pass
    assert "0 of 6 finished; time left: unknown" in console.file.getvalue()
