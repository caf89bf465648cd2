"""What loggers get of an evaluation: one run, with the metrics of each row, and W&B tables of all."""

import contextlib
import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from helpers.scoring import images, metrics
from omegaconf import OmegaConf

from autocaption.evaluation.comparison import Comparisons, Result
from autocaption.evaluation.rows import Row
from autocaption.evaluation.tracking import log_scores, log_tables, started_loggers
from autocaption.loggers.wandb import close_wandb
from autocaption.loggers.wandb_log import read_log
from autocaption.report.scores import intervals_of

REFERENCES = [["a dog runs fast on grass", "a brown dog is running"], ["two men sit", "men on a bench"]] * 4
SAID = {
    Row("a, seed 1", folder="rows/a_seed_1", group="a"): ["a dog", "men"] * 4,
    Row("a, seed 2", folder="rows/a_seed_2", group="a"): ["a dog runs", "two dogs"] * 4,
    Row("theirs", folder="rows/theirs"): ["a cat", "two men"] * 4,
}


@pytest.fixture(name="results", scope="module")
def scored_rows():
    scorer, found = metrics(), []
    for row, captions in SAID.items():
        scored = scorer.score(images(captions, REFERENCES))
        scores = {f"val/{name}": value for name, value in scored.scores().items()}
        found.append(Result(row, {**scores, "intervals": intervals_of(scored, "val")}, scored))
    return found


def configuration(folder):
    csv = {"_target_": "autocaption.loggers.csv.CSVLogger", "folder": f"{folder}/csv"}
    wandb = {
        "_target_": "autocaption.loggers.wandb.wandb_logger",
        **{"folder": str(folder), "project": "project", "mode": "offline"},
    }
    return OmegaConf.create(
        {"run_dir": str(folder), "checkpoint": "a", "logger": {"csv": csv, "wandb": wandb}}
    )


def records(folder):
    """The records of the folder's only W&B log, by their kinds."""
    wandb.teardown()  # the log is complete when its writer has ended
    (log,) = folder.rglob("*.wandb")
    found = {}
    for record in read_log(log):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def tables(found, folder):
    """{name: rows as dicts} of the tables in W&B's log."""
    files = [entry for artifact in found["artifact"] for entry in artifact.manifest.contents]
    assert all(entry.local_path.startswith(str(folder)) for entry in files)
    read = {entry.path.partition(".")[0]: json.loads(Path(entry.local_path).read_text()) for entry in files}
    return {
        name: [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        for name, table in read.items()
    }


def test_an_evaluation_is_one_run_with_a_table_of_its_rows(results, tmp_path, no_account):
    together = Comparisons.of("val", results)
    with started_loggers(configuration(tmp_path), list(SAID)) as loggers:
        log_tables(loggers, together)
        log_scores(loggers, "val", results)
    close_wandb(0)
    with open(tmp_path / "csv/metrics.csv", newline="") as file:
        (logged,) = csv.DictReader(file)
    expected = {
        f"{row.folder.removeprefix('rows/')}/{key}": value
        for row, one in zip(SAID, results, strict=True)
        for key, value in one.written.items()
        if key.startswith("val/")
    }
    assert {key: float(value) for key, value in logged.items() if key != "step"} == expected
    found = records(tmp_path)
    configured = {one.key: one.value_json for record in found["config"] for one in record.update}
    assert configured["checkpoint"] == '"a"'
    assert [row["name"] for row in json.loads(configured["rows"])] == [row.name for row in SAID]
    history = {
        "/".join(item.nested_key): json.loads(item.value_json)
        for row in found["history"]
        for item in row.item
    }
    assert {key: history[key] for key in expected} == expected
    shown = tables(found, tmp_path)
    assert set(shown) == {"rows", "differences"}
    rows = {row["row"]: row for row in shown["rows"]}
    assert list(rows) == ["a, seed 1", "a, seed 2", "theirs", "a, mean"]
    assert rows["theirs"]["cider"] == results[2].written["val/cider"]
    assert [rows["theirs"]["cider low"], rows["theirs"]["cider high"]] == results[2].written["intervals"][
        "val/cider"
    ]
    assert (rows["theirs"]["vocabulary"], rows["theirs"]["vocabulary low"]) == (4, None)
    assert rows["a, mean"]["cider"] == together.means["a"]["cider"].mean
    pairs = {(row["row"], row["other"], row["metric"]): row for row in shown["differences"]}
    difference = pairs["a, seed 2", "theirs", "cider"]
    assert difference["p"] == together.differences["a, seed 2", "theirs"]["cider"].p


def test_a_single_row_has_the_keys_of_a_training(results, tmp_path, no_account):
    alone = Result(Row("a"), results[0].written, results[0].scored)
    with started_loggers(configuration(tmp_path), [alone.row]) as loggers:
        log_scores(loggers, "val", [alone])
    close_wandb(0)
    with open(tmp_path / "csv/metrics.csv", newline="") as file:
        (logged,) = csv.DictReader(file)
    assert float(logged["val/cider"]) == results[0].written["val/cider"]
    assert len(logged) == 1 + len(results[0].metrics("val"))


@pytest.mark.parametrize(("error", "status"), [(None, "success"), (KeyboardInterrupt, "failed")])
def test_loggers_hear_how_an_evaluation_ended(monkeypatch, error, status):
    heard = []
    logger = SimpleNamespace(finalize=heard.append, log_hyperparams=lambda values: None)
    monkeypatch.setattr("autocaption.build.loggers", lambda config: [logger])
    with contextlib.suppress(KeyboardInterrupt), started_loggers(OmegaConf.create({}), []):
        assert heard == []
        if error:
            raise error
    assert heard == [status]
