"""Sweeps of real trainings that are killed at random moments; takes minutes."""

import json
import random
import subprocess
import time
from pathlib import Path

import pytest
from helpers.commands import TINY
from helpers.sweeps import SPY
from optuna.trial import TrialState

pytestmark = pytest.mark.slow
KILLS, TRIALS = 10, 12
TIMEOUT = 3600  # seconds; the machine may be busy


def children(pid):
    """The ids of a process's running children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def kill(process, rng):
    """Kill the sweeper or one of its trials."""
    trials = children(process.pid)
    if trials and rng.random() < 0.5:
        subprocess.run(["kill", "-9", str(rng.choice(trials))], check=False, capture_output=True)
    else:
        process.kill()
        process.wait()


def kill_at_random(sweeps, overrides, rng, sweepers=1):
    """Restart sweepers and kill at random, then let them finish; returns the number of trials asked for."""
    start = time.monotonic()
    sweeps.run(*overrides, "sweep.n_trials=1", script="train.py", timeout=TIMEOUT)
    duration = time.monotonic() - start  # of a sweep of one trial, on this machine as busy as it is
    running, kills, total = [], 0, TRIALS
    while kills < KILLS:
        running = [process for process in running if process.poll() is None]
        while len(running) < sweepers:
            running.append(sweeps.start(*overrides, f"sweep.n_trials={total}", script="train.py"))
        victim = rng.choice(running)
        try:
            victim.wait(timeout=rng.uniform(0.1, 0.7) * duration)
        except subprocess.TimeoutExpired:
            kill(victim, rng)
            kills += 1
        else:
            assert victim.returncode == 0, victim.stderr.read()
            total += TRIALS  # it finished early, since the machine is less busy by now
    for process in running:
        process.wait(timeout=TIMEOUT)
    done = sweeps.run(*overrides, f"sweep.n_trials={total}", script="train.py", timeout=TIMEOUT)
    assert done.code == 0, done.err
    return total


def check(study, sweeps, total):
    """Check that the study has exactly the trials that were asked for, each of them complete or pruned."""
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(total))
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}, [
        (trial.number, trial.state, trial.user_attrs.get("error")) for trial in trials
    ]
    for trial in trials:
        assert sorted(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
        if trial.state is TrialState.COMPLETE:
            assert len(trial.intermediate_values) == 4
            metrics = json.loads((sweeps.trial(trial.number) / "metrics.json").read_text())
            assert trial.value == metrics["val/loss"] == min(trial.intermediate_values.values())


OVERRIDES = [
    *("sweep=default", "optimizer.lr=tag(log,interval(1e-4,1e-1))", *TINY, "logger=csv", SPY),
    *("sweep.objective=val/loss", "sweep.direction=minimize", "trainer.max_epochs=4"),
    *("sweep.n_jobs=2", "sweep.retries=10"),
]


def test_a_sweep_survives_ten_kills(sweeps):
    total = kill_at_random(sweeps, OVERRIDES, random.Random(1))
    check(sweeps.study(), sweeps, total)


@pytest.mark.postgres
def test_two_sweepers_on_postgresql_survive_ten_kills(sweeps, postgres):
    overrides = [*OVERRIDES, f"sweep.storage='{postgres}'", "sweep.n_jobs=1"]
    total = kill_at_random(sweeps, overrides, random.Random(2), sweepers=2)
    check(sweeps.study(storage=postgres), sweeps, total)
