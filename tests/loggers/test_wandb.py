"""Weights & Biases as a logger: steps, resumes, ends, mistakes, and what it must not keep."""

import json
import os
import signal
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
import wandb
from helpers.processes import exit_codes, forked
from helpers.sweeps import wait_for

from autocaption.errors import UserError
from autocaption.loggers.wandb import WandbLogger, close_wandb, wandb_logger
from autocaption.loggers.wandb_log import read_log
from autocaption.runs.provenance import record_start
from autocaption.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_account")


def logger(folder, **changes):
    return wandb_logger(str(folder), **{"project": "project", **changes})


def records(folder, kind):
    """The records of a kind in the run's only log."""
    wandb.teardown()  # the log is complete when its writer has ended
    (log,) = folder.glob("wandb/*run-*/*.wandb")
    return [getattr(one, kind) for one in read_log(log) if one.WhichOneof("record_type") == kind]


def rows(folder):
    """History: {step: {name: value}}."""
    found = [
        {"/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in records(folder, "history")
    ]
    return {row["_step"]: {key: value for key, value in row.items() if key[0] != "_"} for row in found}


def summary(folder):
    updates = [item for record in records(folder, "summary") for item in record.update]
    return {
        "/".join([*item.nested_key, item.key]).strip("/"): json.loads(item.value_json) for item in updates
    }


def test_a_row_is_a_step_of_the_trainer(tmp_path):
    one = logger(tmp_path, minimize=["val/loss"])
    for step, loss in ((4, 3.0), (9, 1.0), (14, 2.0)):
        one.log_metrics({"lr": 0.1}, step=step)
        one.log_metrics({"val/loss": loss, "val/bleu4": loss}, step=step)
    one.log_table("val/captions", columns=["caption"], data=[["a dog"]], step=14)
    close_wandb(0)
    found = rows(tmp_path)
    assert found[4] == {"lr": 0.1, "val/loss": 3.0, "val/bleu4": 3.0}
    assert list(found) == [4, 9, 14]
    assert summary(tmp_path)["val/loss"] == {"last": 2.0, "min": 1.0}
    assert summary(tmp_path)["val/bleu4"] == {"last": 2.0, "max": 3.0}
    assert summary(tmp_path)["val/captions/_type"] == "table-file"


def test_what_follows_a_commit_of_its_step_is_kept(tmp_path):
    one = logger(tmp_path)
    one.log_metrics({"a": 1}, step=5)
    one.commit()
    one.log_metrics({"b": 2}, step=5)
    one.commit()
    one.commit()
    one.log_metrics({"c": 3}, step=7)
    close_wandb(0)
    assert rows(tmp_path) == {5: {"a": 1}, 6: {"b": 2}, 7: {"c": 3}}


def test_a_second_run_of_a_process_ends_the_first(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        logger(tmp_path / name, id=name).log_metrics({name: 1}, step=0)
    close_wandb(0)
    assert (rows(tmp_path / "a"), rows(tmp_path / "b")) == ({0: {"a": 1}}, {0: {"b": 1}})


def test_a_killed_run_keeps_what_was_committed(tmp_path):
    def log():
        one = logger(tmp_path)
        one.log_metrics({"a": 1}, step=0)
        one.commit()
        (file,) = tmp_path.glob("wandb/off*/*.wandb")
        wait_for(lambda: b"_timestamp" in file.read_bytes(), seconds=20)  # of the row
        one.log_metrics({"a": 2}, step=1)
        os.kill(os.getpid(), signal.SIGKILL)

    assert exit_codes(forked(log)) == [-signal.SIGKILL]
    assert rows(tmp_path) == {0: {"a": 1}}


def test_an_online_run_sends_its_rows_and_its_end(server, tmp_path, caplog):
    caplog.set_level("INFO")
    one = logger(tmp_path)
    one.log_metrics({"a": 1.0}, step=3)
    one.log_metrics({"a": 2.0}, step=5)
    close_wandb(143)
    assert [(row["_step"], row["a"]) for row in server.history] == [(3, 1.0), (5, 2.0)]
    assert server.exit_codes == [143]
    assert f"W&B: {server.url}/me/project/runs/run" in caplog.messages


def test_a_resumed_run_sends_no_step_twice(server, tmp_path):
    server.last_step = 5
    one = logger(tmp_path)
    for step in (3, 4):
        one.log_metrics({"a": step}, step=step)
    one.log_metrics({"val/b": 1}, step=5)  # of a validation that the last attempt's end interrupted
    for step in (6, 7):
        one.log_metrics({"a": step}, step=step)
    close_wandb(0)
    sent = [(row["_step"], row["a"], row.get("val/b")) for row in server.history]
    assert sent == [(6, 6, 1), (7, 7, None)]


def test_the_run_is_named_after_the_folder_and_has_its_id(tmp_path):
    folder = tmp_path / "2026-01-01_x"
    run = Run.start(folder, "train", "train.py")
    logger(folder, group="g", job_type="train", tags=["a", "b"]).experiment  # noqa: B018 (starts it)
    close_wandb(0)
    (record,) = records(folder, "run")
    assert (record.run_id, record.display_name) == (run.id, "2026-01-01_x")
    assert (record.run_group, record.job_type, list(record.tags)) == ("g", "train", ["a", "b"])
    assert logger(folder, id="other", name="n").version == "other"


@pytest.mark.parametrize(("code", "preempting"), [(0, 0), (1, 0), (130, 0), (143, 1)])
def test_a_run_ends_with_its_exit_code(tmp_path, code, preempting):
    logger(tmp_path).log_metrics({"a": 1}, step=0)
    close_wandb(code)
    (end,) = records(tmp_path, "exit")
    assert end.exit_code == code
    assert len(records(tmp_path, "preempting")) == preempting


MISTAKES = [
    ({"project": "a/b"}, "project"),
    ({"tags": ["x" * 70]}, "tag"),
    ({"id": "a/b"}, "ID"),
    ({"mode": "onlin"}, "mode"),
    ({"grupp": "g"}, "grupp"),
    ({"settings": {"silnt": True}}, "silnt"),
]


@pytest.mark.parametrize(("words", "named"), MISTAKES, ids=[str(*words) for words, _ in MISTAKES])
def test_what_wandb_refuses_is_one_line(tmp_path, words, named):
    with pytest.raises(UserError, match="(?i)" + named) as raised:
        logger(tmp_path, **words).log_metrics({"a": 1}, step=0)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_what_a_server_refuses_ends_the_run(server, tmp_path, status):
    server.refuses = status
    with pytest.raises(UserError, match="refused"):
        logger(tmp_path, entity="nobody").log_metrics({"a": 1}, step=0)


def test_a_server_that_fails_is_done_without(server, tmp_path, caplog):
    caplog.set_level("INFO")
    server.refuses = 500
    one = logger(tmp_path, settings={"init_timeout": 1.0})
    one.log_metrics({"a": 1}, step=0)
    close_wandb(0)
    (line,) = [one for one in caplog.messages if one.startswith("W&B: ")]
    assert "offline" in line
    assert f"autocaption.loggers.sync {tmp_path}" in line
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_the_recorded_command_line_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", "+logger.wandb.password=hunter2"])
    logger(tmp_path).log_metrics({"a": 1}, step=0)
    close_wandb(0)
    assert sys.argv[-1].endswith("hunter2")
    environment = records(tmp_path, "environment")[0]
    assert list(environment.args) == ["seed=1", "+logger.wandb.password=<hidden>"]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"hunter2" not in file.read_bytes(), file


def test_all_files_lie_in_the_run_folder(tmp_path):
    (tmp_path / "run").mkdir()
    one = logger(tmp_path / "run")
    (tmp_path / "run/report.html").write_text("<html>")
    one.log_report(tmp_path / "run/report.html")
    one.log_report(tmp_path / "run/none.html")
    close_wandb(0)
    (artifact,) = records(tmp_path / "run", "artifact")
    assert (artifact.type, artifact.name) == ("report", f"report-{one.version}")
    (file,) = artifact.manifest.contents
    assert file.local_path == str(tmp_path / "run/report.html")


def test_code_that_git_lacks_is_an_artifact(tmp_path):
    (tmp_path / "code/1/conf").mkdir(parents=True)
    (tmp_path / "code/1/conf/mine.yaml").write_text("a: 1\n")
    record_start(tmp_path / "provenance.json")
    logger(tmp_path).log_metrics({"a": 1}, step=0)
    close_wandb(0)
    (artifact,) = records(tmp_path, "artifact")
    assert artifact.type == "code"
    assert [file.path for file in artifact.manifest.contents] == ["conf/mine.yaml"]


def test_a_training_outlives_wandb_s_process(tmp_path, monkeypatch):
    logger = wandb_logger(str(tmp_path))
    gone = SimpleNamespace(log=mock.Mock(side_effect=ConnectionResetError("Connection lost")))
    monkeypatch.setattr(WandbLogger, "experiment", gone)
    for step in range(2):
        logger.log_metrics({"train/loss": 1.0}, step=step)
        logger.commit()
    assert gone.log.call_count == 1
