"""Sweeps on a PostgreSQL server."""

import pytest
from helpers import PATIENCE
from helpers.sweeps import SEARCH, epochs, wait_for
from optuna.trial import TrialState

pytestmark = pytest.mark.postgres


def test_two_sweepers_share_a_database(sweeps, postgres):
    overrides = [*SEARCH, "sweep.n_trials=8", "sweep/pruner=none", f"sweep.storage='{postgres}'"]
    both = [sweeps.start(*overrides) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    study = sweeps.study(storage=postgres)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 8
    assert all(epochs(sweeps.notes(number)) == [1, 2, 3, 4] for number in range(8))
    assert len({trial.user_attrs["owner"]["id"] for trial in study.trials}) == 2


def test_a_killed_sweep_resumes(sweeps, postgres):
    overrides = [*SEARCH, "sweep.n_trials=2", f"sweep.storage='{postgres}'"]
    process = sweeps.start(*overrides, faults='{"1": "hang 2"}')
    wait_for(lambda: "saved 2" in sweeps.notes(1))
    process.kill()
    process.wait()
    again = sweeps.run(*overrides)
    assert again.code == 0, again.err
    assert epochs(sweeps.notes(1)) == [1, 2, 3, 4]


def test_a_server_that_restarts_is_waited_for(sweeps, postgres_server):
    overrides = [*SEARCH, "sweep.n_trials=4", "sweep.n_jobs=2", "sweep/pruner=none", "sweep.heartbeat=0.2"]
    process = sweeps.start(*overrides, f"sweep.storage='{postgres_server.url}'")
    wait_for(lambda: "saved 1" in sweeps.notes(0))
    postgres_server.stop()
    shown = ""
    while "waiting up to 300 s" not in shown:
        shown += (line := process.stdout.readline())
        assert line, process.stderr.read()
    postgres_server.start()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "waiting up to" not in out
    study = sweeps.study(storage=postgres_server.url)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert all(epochs(sweeps.notes(number)) == [1, 2, 3, 4] for number in range(4))
