"""One CSV file of a run: rows at once, columns that come later, crashes, resumes."""

import csv

import pytest
import torch

from autocaption.loggers.csv import CSVLogger


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_rows_are_in_the_file_as_soon_as_they_are_logged(tmp_path):
    logger = CSVLogger(str(tmp_path / "csv"))
    logger.log_metrics({"train/loss": torch.tensor(2.5), "epoch": 0}, step=3)
    assert rows(tmp_path / "csv") == [{"epoch": "0", "step": "3", "train/loss": "2.5"}]
    logger.log_metrics({"train/loss": 1.0, "epoch": 0}, step=4)
    assert rows(tmp_path / "csv")[1]["train/loss"] == "1.0"


def test_columns_are_sorted_whenever_they_come(tmp_path):
    logger = CSVLogger(str(tmp_path))
    logger.log_metrics({"train/loss": 1.0}, step=0)
    logger.log_metrics({"val/loss": 3.0, "epoch": 0, "lr": 0.1}, step=1)
    assert (tmp_path / "metrics.csv").read_text() == (
        "epoch,step,lr,train/loss,val/loss\n,0,,1.0,\n0,1,0.1,,3.0\n"
    )


def fill(folder, steps):
    logger = CSVLogger(str(folder))
    for step in steps:
        logger.log_metrics({"epoch": step // 2, "train/loss": 1 / (step + 1)}, step=step)
        if step % 2:
            logger.log_metrics({"epoch": step // 2, "val/loss": 2.0}, step=step)
    return logger


@pytest.mark.parametrize("torn", ["", "1,", "1,3,0.25", "1,3,0.25,,7,8"])
def test_a_resumed_run_gives_the_file_of_an_uninterrupted_one(tmp_path, torn):
    fill(tmp_path / "whole", range(6))
    fill(tmp_path / "parts", range(4))
    with open(tmp_path / "parts/metrics.csv", "a") as file:
        file.write(torn)  # the process was killed while it wrote
    CSVLogger(str(tmp_path / "parts")).resume_at(2)
    fill(tmp_path / "parts", range(2, 6))
    whole, parts = ((tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts"))
    assert parts == whole


@pytest.mark.parametrize("start", [0, 1])  # 1: a checkpoint before the first row
def test_a_run_that_starts_anew_leaves_nothing_of_the_attempt_before(tmp_path, start):
    CSVLogger(str(tmp_path)).log_metrics({"lr": 0.1, "train/loss": 1.0}, step=1)
    logger = CSVLogger(str(tmp_path))
    logger.resume_at(start)
    logger.log_metrics({"train/loss": 2.0}, step=1)
    assert rows(tmp_path) == [{"step": "1", "train/loss": "2.0"}]
    assert "lr" not in (tmp_path / "metrics.csv").read_text()


def test_resuming_without_a_file_starts_one(tmp_path):
    logger = CSVLogger(str(tmp_path))
    logger.resume_at(5)
    logger.log_metrics({"a": 1}, step=5)
    assert rows(tmp_path) == [{"step": "5", "a": "1"}]
