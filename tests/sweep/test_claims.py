"""Which sweeper runs which trial: several sweepers in one process, each with a storage of its own."""

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autocaption.sweep.claims import Claims
from autocaption.sweep.heartbeat import HeartbeatWatch, lock_domain
from autocaption.sweep.parameters import use_sampler
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study

DEFINITION = {"objective": ["val/bleu4"], "direction": ["maximize"]}


@pytest.fixture(params=["sqlite:///{}/study.db", "journal:{}/study.log"], ids=["sqlite", "journal"])
def url(request, tmp_path):
    return request.param.format(tmp_path)


@pytest.fixture
def sweeper(url, tmp_path):
    """Makes the claims of a sweeper that shares the study with the others."""

    def make(total=3, folder="sweep", grace=60.0, initial_trials=()):
        storage = open_storage(url)
        study = open_study(storage, "study", DEFINITION, [], initial_trials)
        use_sampler(study, optuna.samplers.RandomSampler, seed=0)
        return Claims(study, storage, tmp_path / folder, total, grace, local=True)

    return make


def kill(claims, claim):
    """Leave what a killed sweeper leaves: a running trial whose lock is free."""
    claim.lock.close()
    claims.owner["pid"] = 2**22 + 1  # no process has this id
    claims.send_heartbeat(claim)


def states(claims):
    return [trial.state for trial in claims.study.trials]


def test_sweepers_that_start_at_once_know_that_they_share_locks(tmp_path):
    with ThreadPoolExecutor() as pool:
        with open(tmp_path / ".home", "w") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            second = pool.submit(lock_domain, tmp_path)
            first.write("the first one's")
        assert second.result().endswith(" the first one's")
    assert lock_domain(tmp_path) == second.result()


def test_sweepers_share_the_total(sweeper):
    one, two = sweeper(), sweeper()
    claimed = [one.claim_next(), two.claim_next(), one.claim_next(), two.claim_next()]
    assert claimed.pop() is None
    assert sorted(claim.number for claim in claimed) == [0, 1, 2]
    for claims, claim in zip((one, two, one), claimed, strict=True):
        claims.finish(claim, TrialState.COMPLETE, [0.5], "")
    assert one.claim_next() is None
    assert two.claim_next() is None
    assert sweeper(total=4).claim_next().number == 3


def test_a_running_trial_is_left_alone_and_an_orphaned_one_is_claimed_once(sweeper):
    killed, one, two = sweeper(total=2), sweeper(total=2), sweeper(total=2)
    orphaned = killed.claim_next()
    running = one.claim_next()
    assert two.claim_next() is None
    kill(killed, orphaned)
    assert two.should_wait()
    again = two.claim_next()
    assert (again.number, again.attempt) == (orphaned.number, orphaned.attempt + 1)
    assert again.folder == orphaned.folder
    assert one.claim_next() is None
    killed.finish(orphaned, TrialState.COMPLETE, [9.0], "")  # its claim is lost, so this has no effect
    killed.release(orphaned)
    assert states(two)[orphaned.number] is TrialState.RUNNING
    two.finish(again, TrialState.COMPLETE, [0.5], "")
    one.finish(running, TrialState.PRUNED, None, "")
    assert states(one) == [TrialState.COMPLETE, TrialState.PRUNED]
    assert not one.should_wait()


def test_a_trial_without_an_owner_is_orphaned(sweeper):
    claims = sweeper()
    claims.study.ask()  # all that a sweeper did that was killed between creating and claiming a trial
    assert claims.claim_next().number == 0


def test_a_released_trial_is_claimed_before_a_new_one(sweeper):
    one, two = sweeper(), sweeper()
    first, running = one.claim_next(), one.claim_next()
    params = {"lr": first.trial.suggest_float("lr", 0, 1)}
    one.release(first)
    assert two.should_wait()
    again = two.claim_next()
    assert again.number == first.number < running.number
    assert again.trial.params == params
    assert again.trial.suggest_float("lr", 0, 1) == params["lr"]


def test_a_trial_whose_lock_is_still_held_is_not_claimed(sweeper):
    one, two = sweeper(total=1), sweeper(total=1)
    first = one.claim_next()
    inherited = os.dup(first.lock.fileno())  # by the trial's process, which is about to end
    one.release(first)
    assert two.claim_next() is None
    assert two.should_wait()
    os.close(inherited)
    assert two.claim_next().number == 0


def test_another_machine_s_trial_is_interrupted_once_its_heartbeat_stops(sweeper, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("autocaption.sweep.heartbeat.time.monotonic", lambda: now[0])
    far, near = sweeper(total=1, folder="there"), sweeper(total=1, folder="here", grace=60)
    claim = far.claim_next()
    assert near.claim_next() is None
    assert near.should_wait()  # no second heartbeat was seen yet
    now[0] = 59
    far.send_heartbeat(claim)
    assert near.claim_next() is None
    assert not near.should_wait()  # it is alive
    now[0] = 118
    assert near.claim_next() is None
    claim.lock.close()
    now[0] = 120
    again = near.claim_next()
    assert (again.number, again.attempt) == (0, 2)


def test_after_an_outage_other_machines_trials_get_the_whole_grace_again(sweeper, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("autocaption.sweep.heartbeat.time.monotonic", lambda: now[0])
    far, near = sweeper(total=1, folder="there"), sweeper(total=1, folder="here", grace=60)
    far.claim_next()
    assert near.claim_next() is None
    now[0] = 300
    near.forget_heartbeats()
    assert near.claim_next() is None


def test_a_trial_whose_job_holds_the_lock_is_not_claimed_again(sweeper):
    claims = sweeper(total=1)
    claims.claim_next().lock.close()  # a launcher's job will lock the folder
    assert claims.claim_next() is None


def test_a_heartbeat_takes_no_trial_back(sweeper):
    killed, two = sweeper(total=1), sweeper(total=1)
    orphaned = killed.claim_next()
    kill(killed, orphaned)
    again = two.claim_next()
    killed.send_heartbeat(orphaned)
    assert two.is_ours(again)
    assert not killed.is_ours(orphaned)


def test_initial_trials_come_first_and_once(sweeper):
    initial_trials = [{"lr": 0.25}, {"lr": 0.75}]
    one, two = sweeper(initial_trials=initial_trials), sweeper(initial_trials=initial_trials)
    claimed = [claims.claim_next() for claims in (one, two, one)]
    drawn = [claim.trial.suggest_float("lr", 0, 1) for claim in claimed]
    assert drawn[:2] == [0.25, 0.75]
    assert one.claim_next() is None


def test_more_initial_trials_than_the_total(sweeper):
    claims = sweeper(total=1, initial_trials=[{"lr": 0.25}, {"lr": 0.75}])
    claim = claims.claim_next()
    claims.finish(claim, TrialState.COMPLETE, [0.5], "")
    assert claims.claim_next() is None
    assert not claims.should_wait()
    assert sweeper(total=2).claim_next().number == 1


def test_files_of_another_study_are_moved_aside(sweeper, tmp_path):
    folder = tmp_path / "sweep/trial_0"
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"study": "earlier"}))
    (folder / "metrics.json").write_text("{}")
    claims = sweeper()
    claim = claims.claim_next()
    assert {file.name for file in folder.iterdir()} == {".lock", "trial.json"}
    assert (tmp_path / "sweep/trial_0_of_earlier/metrics.json").exists()
    (folder / "metrics.json").write_text("{}")
    claims.release(claim)
    assert (sweeper().claim_next().folder / "metrics.json").exists()  # the same study's stay


def test_files_of_another_study_are_moved_also_after_a_kill_amid_it(sweeper, tmp_path, monkeypatch):
    folder, rename, moved = tmp_path / "sweep/trial_0", Path.rename, []
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"study": "earlier"}))
    for number in range(20):
        (folder / f"{number}.log").touch()

    def killed(path, target):
        moved.append(path)
        if len(moved) == 21:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        sweeper().claim_next()
    monkeypatch.setattr(Path, "rename", rename)
    sweeper().claim_next()
    assert {file.name for file in folder.iterdir()} == {".lock", "trial.json"}


def test_any_change_counts_as_a_heartbeat(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("autocaption.sweep.heartbeat.time.monotonic", lambda: now[0])
    watch = HeartbeatWatch(grace=10)

    def trial(**changes):
        return optuna.trial.create_trial(state=TrialState.RUNNING, **changes)

    assert not watch.timed_out(trial(user_attrs={"beat": 1.0}))
    assert not watch.is_alive(trial(user_attrs={"beat": 1.0}))
    now[0] = 11
    assert watch.timed_out(trial(user_attrs={"beat": 1.0}))
    assert watch.is_alive(trial(user_attrs={"beat": 2.0}))
    now[0] = 20
    assert watch.is_alive(trial(user_attrs={"beat": 2.0}, intermediate_values={1: 0.5}))
    now[0] = 29
    assert watch.is_alive(trial(user_attrs={"beat": 2.0}, intermediate_values={1: 0.5}))
    now[0] = 31
    assert not watch.is_alive(trial(user_attrs={"beat": 2.0}, intermediate_values={1: 0.5}))
