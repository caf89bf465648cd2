"""The sweeper's loop, with trials that end as soon as they start."""

import json

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.claims import Claims
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.sweeper import Sweeper
from autocaption.sweep.table import SweepTable

COMPLETE, FAIL = TrialState.COMPLETE, TrialState.FAIL


class Ended:
    """A process that ended before it was looked at."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

    def interrupt(self):
        pass

    kill = interrupt


class Scripted:
    """Starts trials that end as a script says: metrics, an exit code, or a code for each attempt."""

    def __init__(self, folder, script, **settings):
        objective = settings.pop("objective", ["val/bleu4"])
        definition = {"objective": objective, "direction": ["maximize"] * len(objective), "fixed": []}
        storage = open_storage(f"sqlite:///{folder}/study.db")
        self.study = open_study(storage, "study", definition, [], [])
        claims = Claims(
            self.study, storage, folder, lambda n: optuna.samplers.RandomSampler(n), len(script), 60.0, True
        )
        self.script, self.slots = script, []
        self.console = Console(record=True, width=200, force_terminal=False)
        table = SweepTable(self.study, objective, len(script), 1, self.console)
        settings = {"jobs": 1, "max_failures": 3, "retries": 2, "heartbeat": 1.0, **settings}
        self.sweeper = Sweeper(claims, self.start, table, objective, **settings)

    def start(self, claim, slot):
        self.slots.append(slot)
        end = self.script[claim.number]
        if isinstance(end, list):
            end = end.pop(0)
        if isinstance(end, UserError):
            raise end
        if isinstance(end, dict):
            (claim.folder / "metrics.json").write_text(json.dumps(end))
            return Ended(0)
        (claim.folder / "stderr.log").write_text(f"Traceback\nBoomError: {claim.number}\n\n")
        return Ended(end)


GOOD = {"val/bleu4": 0.25, "val/loss": 1.0}


def test_every_outcome_of_a_trial_is_recorded(tmp_path):
    nan, none = {"val/bleu4": float("nan")}, {"val/loss": 1.0}
    script = [GOOD, 1, GOOD, nan, GOOD, none, UserError("won't compose"), GOOD, 0]
    run = Scripted(tmp_path, script)
    run.sweeper.run()
    states = [trial.state for trial in run.study.trials]
    assert states == [COMPLETE, FAIL, COMPLETE, FAIL, COMPLETE, FAIL, FAIL, COMPLETE, FAIL]
    errors = [trial.user_attrs.get("error", "") for trial in run.study.trials]
    for number, text in {
        1: "BoomError: 1",
        3: "not a number",
        5: "val/loss",
        6: "won't",
        8: "metrics",
    }.items():
        assert text in errors[number]
        assert errors[number] in run.console.export_text(clear=False)
    assert run.study.best_value == 0.25


def test_killed_trial_is_retried_up_to_the_limit(tmp_path):
    run = Scripted(tmp_path, [[-9, -9, GOOD], [-9, -9, -9], GOOD])
    run.sweeper.run()
    assert [trial.state for trial in run.study.trials] == [COMPLETE, FAIL, COMPLETE]
    assert "SIGKILL" in run.study.trials[1].user_attrs["error"]
    assert len(run.slots) == 3 + 3 + 1


def test_failures_in_a_row_end_the_sweep_with_the_last_error(tmp_path):
    run = Scripted(tmp_path, [1, 1, GOOD, 1, 1, 1, GOOD], max_failures=2)
    with pytest.raises(UserError, match="BoomError: 5"):
        run.sweeper.run()
    assert [trial.state for trial in run.study.trials] == [FAIL, FAIL, COMPLETE, FAIL, FAIL, FAIL]


def test_result_of_a_killed_sweeper_is_recorded(tmp_path):
    run = Scripted(tmp_path, [GOOD, GOOD])
    claim = run.sweeper.claims.take()
    run.start(claim, 0)
    claim.lock.close()  # the sweeper is killed here
    (tmp_path / "again").mkdir()
    again = Scripted(tmp_path, [1, GOOD])  # it would fail if it were run again
    again.sweeper.run()
    assert [trial.state for trial in again.study.trials] == [COMPLETE, COMPLETE]


def test_several_objectives(tmp_path):
    run = Scripted(tmp_path, [GOOD, {**GOOD, "val/loss": 2.0}], objective=["val/bleu4", "val/loss"])
    run.sweeper.run()
    assert [trial.values for trial in run.study.trials] == [[0.25, 1.0], [0.25, 2.0]]
    assert [trial.number for trial in run.study.best_trials] == [1]
