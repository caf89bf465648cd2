"""The attempts of a run, joined to one W&B run and uploaded."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import wandb
from helpers import PATIENCE, ROOT
from PIL import Image

from autocaption.errors import UserError
from autocaption.loggers import sync as command
from autocaption.loggers.wandb import close_wandb, wandb_logger
from autocaption.loggers.wandb_log import read_log, write_log

pytestmark = pytest.mark.usefixtures("no_account")


def join(run):
    (log,) = command.join(run)
    return log


def attempt(folder, steps, code=0, **changes):
    """An attempt that logs a loss at each step, and a validation at every third."""
    folder.mkdir(exist_ok=True)
    logger = wandb_logger(str(folder), **{"project": "project", "id": "run", **changes})
    for step in steps:
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step=step)
        if step % 3 == 2:
            logger.log_metrics({"val/bleu4": 10 - step}, step=step)
    close_wandb(code)
    wandb.teardown()  # the log is complete when its writer has ended
    return logger


def rows(log):
    """[(step, {name: value})] of a log."""
    found = []
    for record in read_log(log):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found.append((items["_step"], {key: items[key] for key in sorted(items) if key[0] != "_"}))
    return found


def kinds(log):
    return [record.WhichOneof("record_type") for record in read_log(log)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of a run without interruptions."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    attempt(folder, range(9), mode="offline")
    return rows(join(folder))


@pytest.mark.parametrize(
    "attempts",
    [
        [range(3), range(3, 9)],  # resumed where it stopped
        [range(8), range(3, 9)],  # killed after its last checkpoint
        [range(7), range(3, 5), range(2, 9)],  # resumed from an older checkpoint
        [range(4), range(0), range(4, 9)],  # the second was stopped before it logged anything
    ],
)
def test_a_resumed_run_is_one_run(tmp_path, whole, attempts):
    for number, steps in enumerate(attempts):
        attempt(tmp_path / "run", steps, 143 if number < len(attempts) - 1 else 0)
    log = join(tmp_path / "run")
    assert rows(log) == whole
    found = kinds(log)
    assert [found.count(kind) for kind in ("header", "run", "exit", "preempting")] == [1, 1, 1, 0]
    assert [record.num for record in read_log(log)] == list(range(1, len(found) + 1))


def test_an_interrupted_validation_belongs_to_its_step(tmp_path):
    logger = wandb_logger(str(tmp_path), project="project", id="run")
    logger.log_metrics({"train/loss": 1.0}, step=5)
    close_wandb(143)
    wandb.teardown()
    logger = wandb_logger(str(tmp_path), project="project", id="run")
    logger.log_metrics({"val/bleu4": 2.0}, step=5)
    close_wandb(0)
    wandb.teardown()
    assert rows(join(tmp_path)) == [(5, {"train/loss": 1.0, "val/bleu4": 2.0})]


def test_the_best_value_is_that_of_all_attempts(tmp_path):
    attempt(tmp_path / "run", range(3), 143)  # val/bleu4 is 8, then 5 and 2
    attempt(tmp_path / "run", range(3, 9))
    summary = {}
    for record in read_log(join(tmp_path / "run")):
        summary |= {"/".join(item.nested_key): item.value_json for item in record.summary.update}
    assert json.loads(summary["val/bleu4"]) == {"last": 2, "max": 8}


def test_a_moved_run_brings_its_files(tmp_path):
    logger = wandb_logger(str(tmp_path / "run"), project="project", id="run")
    picture = wandb.Image(Image.new("RGB", (8, 8), "red"))
    logger.log_table("val/captions", columns=["image"], data=[[picture]], step=1)
    (tmp_path / "run/report.html").write_text("<html>")
    logger.log_report(tmp_path / "run/report.html")
    close_wandb(0)
    wandb.teardown()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    log = join(tmp_path / "moved")
    (table,) = log.parent.glob("files/media/table/val/*.json")
    named = [file.path for record in read_log(log) for file in record.files.files]
    assert str(table.relative_to(log.parent / "files")) in named
    contents = [
        entry for record in read_log(log) for entry in record.artifact.manifest.contents if entry.local_path
    ]
    assert {os.path.splitext(entry.path)[1] for entry in contents} == {".png", ".json", ".html"}
    assert all(entry.local_path.startswith(str(tmp_path / "moved")) for entry in contents)


def test_a_file_that_has_changed_is_left_out_and_said(tmp_path, capsys):
    logger = wandb_logger(str(tmp_path), project="project", id="run")
    (tmp_path / "report.html").write_text("<html>")
    logger.log_report(tmp_path / "report.html")
    close_wandb(0)
    wandb.teardown()
    (tmp_path / "report.html").write_text("<html>another")
    assert "artifact" not in kinds(join(tmp_path))
    assert "left out: report report-run" in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 1, 6, 7, 40])
def test_a_log_that_was_cut_short_is_read_up_to_there(tmp_path, size):
    attempt(tmp_path / "run", range(3), 143)
    (log,) = (tmp_path / "run").glob("wandb/off*/*.wandb")
    log.write_bytes(log.read_bytes()[:size])
    attempt(tmp_path / "run", range(3))
    assert [step for step, _ in rows(join(tmp_path / "run"))] == [0, 1, 2]


def test_a_run_without_a_log_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no W&B log"):
        join(tmp_path)
    (tmp_path / "wandb/run-1").mkdir(parents=True)
    (tmp_path / "wandb/run-1/x.wandb").write_text("something else")
    with pytest.raises(UserError, match="not a W&B log"):
        join(tmp_path)


def test_another_id_is_another_run(tmp_path):
    for name in ("a", "b", "a"):
        attempt(tmp_path / "run", range(1), id=name)
    assert [log.name for log in command.join(tmp_path / "run")] == ["run-a.wandb", "run-b.wandb"]


def test_records_of_every_length_come_back(tmp_path):
    from wandb.proto.wandb_internal_pb2 import Record

    lengths = [0, 1, 32_740, 32_754, 32_755, 32_756, 100, 70_000, *range(32_600, 32_700, 7)]
    records = [Record(uuid="x" * length) for length in lengths]
    write_log(tmp_path / "log", records)
    assert [len(record.uuid) for record in read_log(tmp_path / "log")] == lengths


def sync(*words):
    command = [sys.executable, "-m", "autocaption.loggers.sync", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)


def test_without_a_key_nothing_is_uploaded(tmp_path):
    attempt(tmp_path / "run", range(1))
    done = sync(tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nothing is uploaded: no API key is configured")
    assert len(done.stderr.splitlines()) == 1


def test_what_is_uploaded_is_one_run_in_order(server, tmp_path, whole):
    attempt(tmp_path / "run", range(8), 143, mode="offline", settings={"run_notes": "n" * 100_000})
    attempt(tmp_path / "run", range(3, 9), mode="offline")
    done = sync(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    sent = [
        (row.pop("_step"), {key: row[key] for key in sorted(row) if key[0] != "_"}) for row in server.history
    ]
    assert sent == whole
    assert server.exit_codes == [0]
    assert "requirements.txt" in server.files
    assert {variables["name"] for name, variables in server.asked if name == "UpsertBucket"} == {"run"}
