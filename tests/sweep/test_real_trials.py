"""Sweeps whose trials are real trainings, on tiny data."""

import json

import pytest
from helpers.commands import TINY
from helpers.sweeps import PRUNE_AFTER_TWO, SPACE, SPY, wait_for
from optuna.trial import TrialState


def read(file):
    return json.loads(file.read_text())


@pytest.mark.slow
def test_all_ranks_of_a_pruned_trial_train_the_same_and_stop_together(sweeps):
    done = sweeps.run(
        *(*SPACE, *TINY, "model.decoder.hidden_dim=choice(8,12)", "trainer=ddp_sim", SPY),
        *("trainer.max_epochs=3", "sweep.n_trials=1", "sweep.baseline=false", "test=true"),
        *PRUNE_AFTER_TWO,
        script="train.py",
    )
    assert done.code == 0, done.err
    (trial,) = sweeps.study().trials
    folder = sweeps.trial(0)
    assert trial.state is TrialState.PRUNED
    first, second = (read(folder / f"rank_{rank}.json") for rank in (0, 1))
    assert first == second
    assert first["lr"] == pytest.approx(trial.params["optimizer.lr"], rel=1e-12)
    assert first["hidden_dim"] == trial.params["model.decoder.hidden_dim"]
    assert (first["epochs"], first["steps"]) == (2, 2 * 2)  # 24 images / 2 devices / 8 a batch
    # It ended cleanly: checkpoint, metrics and W&B run are there, and the test split wasn't used.
    assert (folder / "checkpoints/best.ckpt").exists()
    metrics = read(folder / "metrics.json")
    assert metrics["epochs"] == 2
    assert not any(name.startswith("test/") for name in metrics)
    assert trial.intermediate_values.keys() == {1, 2}
    uid = sweeps.study().user_attrs["uid"]
    assert len(list((folder / "wandb").glob(f"offline-run-*-{uid}-0"))) == 1
    assert list((folder.parent / "wandb").glob(f"offline-run-*-{uid}-summary"))
    assert f"group: sweep-{uid}" in (folder / "config.yaml").read_text()


@pytest.mark.slow
def test_a_killed_training_resumes_from_its_checkpoint(sweeps):
    overrides = [*SPACE, *TINY, "trainer.max_epochs=6", "sweep.n_trials=1", "logger=csv"]
    whole = sweeps.run(*overrides, "sweep.folder=whole", script="train.py")
    assert whole.code == 0, whole.err
    process = sweeps.start(*overrides, script="train.py")
    wait_for((sweeps.trial(0) / "checkpoints/last.ckpt").exists)
    process.kill()
    process.wait()
    done = sweeps.run(*overrides, script="train.py")
    assert done.code == 0, done.err
    assert len(read(sweeps.trial(0) / "provenance.json")) == 2
    uninterrupted = read(sweeps.folder / "whole/trial_0/metrics.json")
    assert read(sweeps.trial(0) / "metrics.json") == pytest.approx(uninterrupted)
    (trial,) = sweeps.study().trials
    assert list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
    assert trial.value == min(trial.intermediate_values.values())
    assert (
        f"optimizer.lr={trial.params['optimizer.lr']}"
        in read(sweeps.trial(0) / "provenance.json")[0]["command"]
    )
