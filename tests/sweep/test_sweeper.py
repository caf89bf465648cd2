"""The loop of a sweep, with trials that end as soon as they start."""

import json
import signal

import pytest
from helpers.quick_trial import save
from optuna.samplers import BruteForceSampler, RandomSampler
from optuna.trial import TrialState
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.claims import Claims
from autocaption.sweep.parameters import use_sampler
from autocaption.sweep.patience import Patience
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.sweeper import InterruptedSweepError, Sweeper
from autocaption.sweep.table import SweepTable

COMPLETE, FAIL = TrialState.COMPLETE, TrialState.FAIL
GOOD = {"val/bleu4": 0.25, "val/loss": 1.0}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("autocaption.sweep.sweeper.POLL_SECONDS", 0)


class Ended:
    """A process that ended at once."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

    def interrupt(self):
        pass

    kill = interrupt


class Scripted:
    """A sweep whose trials end as scripted: metrics, an exit code, an error, or a list of them."""

    def __init__(self, folder, script, objective=("val/bleu4",), sampler=RandomSampler, **settings):
        directions = ["maximize"] * len(objective)
        definition = {"objective": list(objective), "direction": directions, "fixed": []}
        storage = open_storage(f"journal:{folder}/study.log")
        self.study = open_study(storage, "study", definition, [], [])
        use_sampler(self.study, sampler, seed=0)
        self.claims = Claims(self.study, storage, folder, len(script), 60.0, local=True)
        self.script, self.starts = script, []
        self.console = Console(record=True, width=200, force_terminal=False)
        table = SweepTable(self.study, objective, len(script), 1, self.console)
        self.said = []
        settings = {"jobs": 1, "max_failures": 3, "retries": 2, "heartbeat": 1.0, **settings}
        settings["patience"] = Patience(60.0, self.said.append)
        self.sweeper = Sweeper(self.claims, self.start, table, objective, **settings)

    def start(self, claim, slot):
        self.starts.append(claim.number)
        end = self.script[claim.number]
        if isinstance(end, list):
            end = end.pop(0)
        if callable(end):
            end = end(claim)
        if isinstance(end, UserError):
            raise end
        if isinstance(end, dict):
            (claim.folder / "metrics.json").write_text(json.dumps(end))
            return Ended(0)
        (claim.folder / "stderr.log").write_text(f"Traceback\nBoomError: {claim.number}\n\n")
        return Ended(end)

    def run(self):
        self.sweeper.run()
        return [trial.state for trial in self.study.trials]


def test_every_way_a_trial_can_end(tmp_path):
    nan, incomplete = {"val/bleu4": float("nan")}, {"val/loss": 1.0}
    sweep = Scripted(
        tmp_path, [GOOD, 1, GOOD, nan, GOOD, incomplete, UserError("won't compose"), GOOD, [0, 0, 0]]
    )
    assert sweep.run() == [COMPLETE, FAIL, COMPLETE, FAIL, COMPLETE, FAIL, FAIL, COMPLETE, FAIL]
    errors = [trial.user_attrs.get("error", "") for trial in sweep.study.trials]
    parts = {
        1: "BoomError: 1",
        3: "not a number",
        5: "val/loss",
        6: "won't compose",
        8: "without metrics.json",
    }
    for number, part in parts.items():
        assert part in errors[number]
        assert errors[number] in sweep.console.export_text(clear=False)
    assert sweep.study.best_value == 0.25


def test_a_killed_trial_is_restarted_a_limited_number_of_times(tmp_path):
    sweep = Scripted(tmp_path, [[-9, -9, GOOD], [-9, -9, -9], GOOD])
    assert sweep.run() == [COMPLETE, FAIL, COMPLETE]
    assert "SIGKILL" in sweep.study.trials[1].user_attrs["error"]
    assert sweep.starts == [0, 0, 0, 1, 1, 1, 2]


def test_a_preempted_trial_is_resumed_a_limited_number_of_times(tmp_path):
    sweep = Scripted(tmp_path, [[143, 130, GOOD], [143, 143, 143], GOOD])
    assert sweep.run() == [COMPLETE, FAIL, COMPLETE]
    assert "SIGTERM" in sweep.study.trials[1].user_attrs["error"]
    assert sweep.starts == [0, 0, 0, 1, 1, 1, 2]


def reached(epoch, code):
    """The end of an attempt that reported an epoch."""

    def end(claim):
        claim.trial.set_user_attr("epochs", epoch)
        return code

    return end


def saved(code):
    """The end of an attempt that saved a checkpoint."""

    def end(claim):
        save(claim.folder, 1)
        return code

    return end


@pytest.mark.parametrize("code", [-9, 143, 137, 0])
def test_an_attempt_that_got_further_uses_up_no_retry(tmp_path, code):
    ends = [code, *(reached(epoch, code) for epoch in range(1, 9)), saved(code), saved(code), code, GOOD]
    assert Scripted(tmp_path, [ends]).run() == [COMPLETE]


def test_an_attempt_that_got_no_further_than_the_best_before_uses_up_a_retry(tmp_path):
    ends = [reached(3, -9), reached(2, -9), reached(3, -9), reached(1, -9), GOOD]
    assert Scripted(tmp_path, [ends]).run() == [FAIL]


def test_a_trial_that_was_killed_after_its_end_is_not_run_again(tmp_path):
    def killed(claim):
        (claim.folder / "metrics.json").write_text(json.dumps(GOOD))
        return -9

    sweep = Scripted(tmp_path, [killed])
    assert sweep.run() == [COMPLETE]
    assert sweep.starts == [0]


def test_a_trial_that_another_sweeper_has_claimed_since_is_left_to_it(tmp_path):
    def claimed(claim):
        claim.trial.set_user_attr("owner", {"id": "another", "home": "", "pid": 1})
        return 0

    sweep = Scripted(tmp_path, [claimed])
    sweep.claims.should_wait = lambda: False
    assert sweep.run() == [TrialState.RUNNING]
    assert sweep.starts == [0]


class Faults:
    """A storage that fails each write once, before or after it is done, as a server that restarts does."""

    def __init__(self, storage, after):
        self._storage, self._after, self._failed = storage, after, set()
        self.count = 0

    def __getattr__(self, name):
        method = getattr(self._storage, name)
        return self._failing(name, method) if name.startswith(("set_trial", "create_new_trial")) else method

    def _failing(self, name, method):
        def call(*arguments, **named):
            call = (name, str(arguments[:2] if name == "set_trial_user_attr" else arguments[:1]))
            fails = call not in self._failed
            self._failed.add(call)
            if fails and not self._after:
                self.count += 1
                raise ConnectionError("the server restarts")
            result = method(*arguments, **named)
            if fails:
                self.count += 1
                raise ConnectionError("the server restarts")
            return result

        return call


@pytest.mark.parametrize("after", [False, True])
def test_an_outage_at_any_write_loses_no_trial(tmp_path, monkeypatch, after):
    monkeypatch.setattr("autocaption.sweep.patience.time.sleep", lambda seconds: None)
    sweep = Scripted(tmp_path, [GOOD, 1, GOOD])
    faults = Faults(sweep.study._storage, after)
    sweep.study._storage = faults
    assert sweep.run() == [COMPLETE, FAIL, COMPLETE]
    assert faults.count > 6
    assert sorted(set(sweep.starts)) == [0, 1, 2]


def test_failures_in_a_row_end_the_sweep_with_the_last_error(tmp_path):
    sweep = Scripted(tmp_path, [1, 1, GOOD, 1, 1, 1, GOOD], max_failures=2)
    with pytest.raises(UserError, match="BoomError: 5"):
        sweep.run()
    assert [trial.state for trial in sweep.study.trials] == [FAIL, FAIL, COMPLETE, FAIL, FAIL, FAIL]


def test_a_result_from_before_the_sweeper_was_killed_is_taken_over(tmp_path):
    killed = Scripted(tmp_path, [GOOD, GOOD])
    claim = killed.claims.claim_next()
    killed.start(claim, 0)
    claim.lock.close()
    again = Scripted(tmp_path, [1, GOOD])
    assert again.run() == [COMPLETE, COMPLETE]
    assert again.starts == [1]


def test_a_pruned_trial_is_stored_as_pruned(tmp_path):
    def pruned(claim):
        claim.trial.set_user_attr("pruned", 2)
        return 0

    sweep = Scripted(tmp_path, [pruned, GOOD])
    assert sweep.run() == [TrialState.PRUNED, COMPLETE]


def test_several_objectives(tmp_path):
    sweep = Scripted(tmp_path, [GOOD, {**GOOD, "val/loss": 2.0}], objective=["val/bleu4", "val/loss"])
    sweep.run()
    assert [trial.values for trial in sweep.study.trials] == [[0.25, 1.0], [0.25, 2.0]]
    assert [trial.number for trial in sweep.study.best_trials] == [1]


def test_a_sweep_ends_when_every_combination_was_tried(tmp_path):
    def suggest(claim):
        claim.trial.suggest_int("layers", 1, 3)
        return GOOD

    sweep = Scripted(tmp_path, [suggest] * 9, sampler=BruteForceSampler)
    assert sweep.run() == [COMPLETE] * 3
    more = Scripted(tmp_path, [suggest] * 9, sampler=BruteForceSampler)
    assert more.run() == [COMPLETE] * 3


class Deaf(Ended):
    """A process that ignores interrupts; signals of the terminal arrive whenever the sweeper polls it."""

    def __init__(self):
        super().__init__(None)
        self.calls = []

    def poll(self):
        signal.raise_signal(signal.SIGINT)
        return self.code

    def interrupt(self):
        self.calls.append("interrupt")

    def kill(self):
        self.calls.append("kill")
        self.code = -9


def test_a_second_ctrl_c_kills_the_trials(tmp_path):
    sweep, process = Scripted(tmp_path, [GOOD]), Deaf()
    sweep.sweeper.start = lambda claim, slot: process
    with pytest.raises(InterruptedSweepError):
        sweep.run()
    assert process.calls == ["interrupt", "kill"]
    assert [trial.state for trial in sweep.study.trials] == [TrialState.WAITING]
    assert "interrupted" in sweep.console.export_text()


class Reporting(Deaf):
    """A process that waits for an answer to its report, from a storage that is gone."""

    def poll(self):
        self.calls.append("poll")
        assert len(self.calls) < 100, "it is waited for without end"
        if self.code is None:
            raise ConnectionError("the server is gone")
        return self.code


def test_a_trial_that_waits_for_a_storage_that_is_gone_is_killed(tmp_path):
    sweep, process = Scripted(tmp_path, [GOOD]), Reporting()
    sweep.sweeper.start = lambda claim, slot: process
    sweep.sweeper.patience = Patience(0, sweep.said.append)
    with pytest.raises(ConnectionError, match="the server is gone"):
        sweep.run()
    assert process.calls == ["poll", "interrupt", "poll", "kill", "poll"]
