"""Sweeps of real trainings that are killed at random moments; minutes."""

import json
import random
import subprocess
import time
from pathlib import Path

import pytest
from helpers.sweeps import SPY, TINY
from optuna.trial import TrialState

pytestmark = pytest.mark.slow
KILLS, TRIALS = 10, 12
PATIENCE = 3600  # seconds; the machine may have other work


def children(pid):
    """The processes that a process started and that still run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def kill(process, rng):
    """Kill the sweeper or one of its trials; the sweeper ends soon after, or goes on."""
    trials = children(process.pid)
    if trials and rng.random() < 0.5:
        subprocess.run(["kill", "-9", str(rng.choice(trials))], check=False, capture_output=True)
    else:
        process.kill()
        process.wait()


def disturb(sweeps, words, rng, sweepers=1):
    """Start sweepers again and again while killing; returns how many kills there were."""
    start = time.monotonic()
    sweeps.run(*words, "sweep.n_trials=1", script="train.py", timeout=PATIENCE)
    one = time.monotonic() - start  # seconds of a trial and its sweeper on this machine, as it is now
    running, kills = [], 0
    while kills < KILLS:
        running = [one for one in running if one.poll() is None]
        while len(running) < sweepers:
            running.append(sweeps.start(*words, script="train.py"))
        victim = rng.choice(running)
        try:
            victim.wait(timeout=rng.uniform(0.1, 0.7) * one)
        except subprocess.TimeoutExpired:
            kill(victim, rng)
            kills += 1
        else:
            assert victim.returncode == 0, victim.stderr.read()
            break  # it was finished sooner
    for process in running:
        process.wait(timeout=PATIENCE)
    return kills


def check(study, sweeps):
    """Exactly the trials that were asked for, each one whole."""
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}, [
        (trial.number, trial.state, trial.user_attrs.get("error")) for trial in trials
    ]
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
        if trial.state is TrialState.COMPLETE:
            assert len(trial.intermediate_values) == 4
            metrics = json.loads((sweeps.trial(trial.number) / "metrics.json").read_text())
            assert trial.value == metrics["val/loss"] == min(trial.intermediate_values.values())


WORDS = [
    *("sweep=default", "optimizer.lr=tag(log,interval(1e-4,1e-1))", *TINY, "logger=csv", SPY),
    *("sweep.objective=val/loss", "sweep.direction=minimize", "trainer.max_epochs=4"),
    *(f"sweep.n_trials={TRIALS}", "sweep.n_jobs=2", "sweep.retries=10"),
]


def test_a_sweep_survives_ten_kills(sweeps):
    kills = disturb(sweeps, WORDS, random.Random(1))
    done = sweeps.run(*WORDS, script="train.py", timeout=PATIENCE)
    assert done.code == 0, done.err
    assert kills == KILLS
    check(sweeps.study(), sweeps)


@pytest.mark.postgres
def test_two_sweepers_on_postgresql_survive_ten_kills(sweeps, postgres):
    words = [*WORDS, f"sweep.storage='{postgres}'", "sweep.n_jobs=1"]
    kills = disturb(sweeps, words, random.Random(2), sweepers=2)
    done = sweeps.run(*words, script="train.py", timeout=PATIENCE)
    assert done.code == 0, done.err
    assert kills == KILLS
    check(sweeps.study(storage=postgres), sweeps)
