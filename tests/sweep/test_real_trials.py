"""Sweeps whose trials are real trainings, on tiny data."""

import json

import pytest
from optuna.trial import TrialState
from sweep_processes import wait_for

TINY = [
    *("data.source.train=24", "data.source.val=7", "data.source.test=9", "data.batch_size=8"),
    *("tokenizer.min_count=1", "model.encoder.width=4", "model.encoder.out_dim=16"),
    *("model.decoder.embed_dim=16", "model.decoder.hidden_dim=16", "search.max_length=8"),
]
SPACE = [
    "sweep=default",
    "optimizer.lr=interval(1e-3,1e-2)",
    "sweep.objective=val/loss",
    "sweep.direction=minimize",
]
SPY = "+callbacks.spy={_target_: spy.Spy, folder: '${run_dir}'}"


def read(file):
    return json.loads(file.read_text())


def test_ranks_of_a_trial_train_one_configuration_and_stop_together(sweeps):
    done = sweeps.run(
        *(*SPACE, *TINY, "model.decoder.hidden_dim=choice(8,16)", "logger=csv", "trainer=ddp_sim"),
        *(
            "trainer.max_epochs=3",
            "sweep.n_trials=2",
            "sweep/pruner=none",
            "sweep.pruner._target_=spy.Axe",
            SPY,
        ),
        script="train.py",
    )
    assert done.code == 0, done.err
    trials = sweeps.study().trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    for trial, epochs in zip(trials, (3, 2), strict=True):
        first, second = (read(sweeps.trial(trial.number) / f"rank_{rank}.json") for rank in (0, 1))
        assert first == second
        assert first["lr"] == pytest.approx(trial.params["optimizer.lr"], rel=1e-12)
        assert first["hidden_dim"] == trial.params["model.decoder.hidden_dim"]
        assert (first["epochs"], first["steps"]) == (epochs, 2 * epochs)  # 24 images / 2 devices / 8 a batch
    # A pruned trial ended cleanly: its checkpoints are there, its figures too, and no test was made.
    assert (sweeps.trial(1) / "checkpoints/best.ckpt").exists()
    assert read(sweeps.trial(1) / "metrics.json")["epochs"] == 2
    assert trials[1].intermediate_values.keys() == {1, 2}


def test_a_training_goes_on_from_its_checkpoint_and_shares_a_group(sweeps):
    words = [*SPACE, *TINY, "trainer.max_epochs=6", "sweep.n_trials=1"]
    process = sweeps.start(*words, script="train.py")
    wait_for((sweeps.trial(0) / "checkpoints/last.ckpt").exists)
    process.kill()
    process.wait()
    done = sweeps.run(*words, script="train.py")
    assert done.code == 0, done.err
    (trial,) = sweeps.study().trials
    starts, figures = (read(sweeps.trial(0) / f"{name}.json") for name in ("provenance", "metrics"))
    assert len(starts) == 2
    assert figures["epochs"] == 6
    assert figures["steps"] == 6 * 3
    assert list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
    assert trial.value == min(trial.intermediate_values.values()) == figures["val/loss"]
    assert not any(name.startswith("test/") for name in figures)
    # The command of a trial's record gives the same training, without a sweep.
    assert f"optimizer.lr={trial.params['optimizer.lr']}" in starts[0]["command"]
    uid = sweeps.study().user_attrs["uid"]
    runs = [run.name for run in (sweeps.trial(0) / "wandb").glob("offline-run-*")]
    assert len(runs) == 2
    assert all(name.endswith(f"-{uid}-0") for name in runs)
    assert list((sweeps.trial(0).parent / "wandb").glob(f"offline-run-*-{uid}-summary"))
    assert f"group: sweep-{uid}" in (sweeps.trial(0) / "config.yaml").read_text()
