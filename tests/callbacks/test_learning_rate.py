"""Learning rates under names that a user recognises, and the same keys in every logger."""

import csv
import json
import sqlite3

import pytest
import wandb
from helpers.commands import TINY
from helpers.configs import composed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from autocaption import experiment
from autocaption.loggers.wandb import close_wandb
from autocaption.loggers.wandb_log import read_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with every logger, and a rate of its own for the encoder."""
    folder = tmp_path_factory.mktemp("run")
    words = (*TINY, "logger=many", f"run_dir={folder}", "trainer.log_every_n_steps=1", "schedule.warmup=0.5")
    words += ("+learning_rates.encoder=0.1", "optimizer.lr=0.01")
    mlflow = "{_target_: autocaption.loggers.mlflow.mlflow_logger, folder: '${run_dir}', tags: [],"
    mlflow += " tracking_uri: null, experiment_name: e}"
    experiment.train(composed(*words, f"+logger.mlflow={mlflow}"))
    close_wandb(0)
    wandb.teardown()
    return folder


def rows(folder):
    with open(folder / "csv/metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_rates_are_those_of_the_schedule_by_part(folder):
    found = [(row["lr"], row["lr/encoder"]) for row in rows(folder) if row["lr"]]
    assert len(found) == 6  # a row a step
    # Half of the steps are warm-up: a third, two thirds, all of the peak.
    assert [float(lr) for lr, _ in found[:3]] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert [float(encoder) for _, encoder in found] == pytest.approx([float(lr) / 10 for lr, _ in found])
    assert found[2][0] == "0.01"


def test_every_logger_has_the_same_keys(folder):
    expected = set(rows(folder)[0]) - {"step"}
    assert {"lr", "lr/encoder", "epoch", "train/loss", "val/bleu4", "test/bleu4"} <= expected
    board = set()
    for events in folder.glob("tensorboard/**/events*"):
        board |= set(EventAccumulator(str(events)).Reload().Tags()["scalars"])
    assert board == expected
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert {name for (name,) in database.execute("select distinct key from metrics")} == expected
    (log,) = folder.glob("wandb/off*/*.wandb")
    history = [record.history for record in read_log(log) if record.WhichOneof("record_type") == "history"]
    names = {"/".join(item.nested_key) for row in history for item in row.item}
    assert {name for name in names if name[0] != "_" and not name.startswith("val/captions")} == expected
    assert any(json.loads(item.value_json) == 0.01 for row in history for item in row.item)
