"""Who owns which trial: several sweepers, crashes, other machines."""

import contextlib
import functools

import optuna
import pytest
from optuna.trial import TrialState

from autocaption.errors import UserError
from autocaption.sweep.claims import Claims
from autocaption.sweep.heartbeat import HeartbeatWatch
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study

DEFINITION = {
    "space": {"lr": "interval"},
    "custom_space": None,
    "objective": ["val/bleu4"],
    "direction": ["maximize"],
    "fixed": ["data=shapes"],
}


@pytest.fixture(params=["sqlite:///{}/study.db", "journal:{}/study.log"])
def url(request, tmp_path):
    return request.param.format(tmp_path)


class Sweepers:
    """Makes sweepers that share a study as separate processes do: each with a storage of its own."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder

    def __call__(self, total=3, folder="sweep", grace=60.0, here=True, first=()):
        storage = open_storage(self.url)
        study = open_study(storage, "study", DEFINITION, [], first)
        sampler = functools.partial(lambda number: optuna.samplers.RandomSampler(seed=number))
        return Claims(study, storage, self.folder / folder, sampler, total, grace, here)


@pytest.fixture
def sweepers(url, tmp_path):
    return Sweepers(url, tmp_path)


def crash(claims, claim):
    """What a crashed sweeper leaves: a running trial, and no lock."""
    claim.lock.close()
    claims.owner["pid"] = 2**22 + 1  # no process has it
    claims.send_heartbeat(claim)


def test_sweepers_share_the_total(sweepers):
    one, two = sweepers(), sweepers()
    taken = [one.take(), two.take(), one.take(), two.take()]
    assert taken.pop() is None
    assert sorted(claim.number for claim in taken) == [0, 1, 2]
    for claims, claim in zip((one, two, one), taken, strict=True):
        claims.finish(claim, TrialState.COMPLETE, [0.5], "")
    assert one.take() is None
    assert two.take() is None
    assert sweepers(total=4).take().number == 3


def test_running_trial_is_left_alone_and_orphan_is_claimed_once(sweepers):
    crashed, one, two = sweepers(total=2), sweepers(total=2), sweepers(total=2)
    lost = crashed.take()
    held = one.take()
    assert two.take() is None
    crash(crashed, lost)
    assert two.may_be_orphaned()
    again = two.take()
    assert (again.number, again.attempt) == (lost.number, lost.attempt + 1)
    assert again.folder == lost.folder
    assert one.take() is None
    crashed.finish(lost, TrialState.COMPLETE, [9.0], "")  # too late: another process owns it
    assert two.study.trials[lost.number].state is TrialState.RUNNING
    two.finish(again, TrialState.COMPLETE, [0.5], "")
    one.finish(held, TrialState.PRUNED, None, "")
    assert [trial.state for trial in one.study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert not one.may_be_orphaned()


def test_released_trial_is_claimed_first(sweepers):
    one, two = sweepers(), sweepers()
    first = one.take()
    params = {"lr": first.trial.suggest_float("lr", 0, 1)}
    one.release(first)
    again = two.take()
    assert again.number == first.number
    assert again.trial.params == params
    assert again.trial.suggest_float("lr", 0, 1) == params["lr"]


def test_silent_trial_of_another_machine_is_claimed(sweepers, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("autocaption.sweep.heartbeat.time.monotonic", lambda: now[0])
    far, near = sweepers(total=1, folder="there"), sweepers(total=1, folder="here", grace=60)
    claim = far.take()
    assert near.take() is None
    assert near.may_be_orphaned()  # nobody knows yet
    now[0] = 59
    far.send_heartbeat(claim)
    assert near.take() is None
    assert not near.may_be_orphaned()  # it was seen to live
    now[0] = 118
    assert near.take() is None
    claim.lock.close()
    now[0] = 120
    taken = near.take()
    assert (taken.number, taken.attempt) == (0, 2)


def test_initial_trials_come_first_and_once(sweepers):
    first = [{"lr": 0.25}, {"lr": 0.75}]
    one, two = sweepers(first=first), sweepers(first=first)
    taken = [claims.take() for claims in (one, two, one)]  # kept, or their locks would go
    drawn = [claim.trial.suggest_float("lr", 0, 1) for claim in taken]
    assert drawn[:2] == [0.25, 0.75]
    assert one.take() is None


def test_more_initial_trials_than_the_total(sweepers):
    claims = sweepers(total=1, first=[{"lr": 0.25}, {"lr": 0.75}])
    claim = claims.take()
    claims.finish(claim, TrialState.COMPLETE, [0.5], "")
    assert claims.take() is None
    assert not claims.may_be_orphaned()
    assert sweepers(total=2).take().number == 1


@pytest.mark.parametrize("what", sorted(DEFINITION))
def test_another_definition_is_refused(url, what):
    open_study(open_storage(url), "study", DEFINITION, [], [])
    other = {**DEFINITION, what: {"space": {"lr": "choice"}, "custom_space": "a.b"}.get(what, ["minimize"])}
    with pytest.raises(UserError, match=r"sweep\.study_name=study_2"):
        open_study(open_storage(url), "study", other, [], [])


def test_study_with_interrupted_setup_is_set_up_again(url, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(optuna.Study, "enqueue_trial", interrupted)
        open_study(open_storage(url), "study", DEFINITION, [], [{"lr": 1.0}])
    study = open_study(open_storage(url), "study", DEFINITION, [], [{"lr": 1.0}])
    assert len(study.trials) == 1


def test_heartbeat_watch_sees_changes_only(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("autocaption.sweep.heartbeat.time.monotonic", lambda: now[0])
    watch = HeartbeatWatch(grace=10)
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"beat": 1.0})
    assert not watch.is_silent(trial)
    now[0] = 11
    assert watch.is_silent(trial)
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"beat": 2.0})
    assert not watch.is_silent(trial)
    assert watch.is_beating(trial)
