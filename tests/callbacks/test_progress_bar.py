"""What a training says on a terminal, and in a log file."""

import sys
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import RichProgressBar

from autocaption.callbacks.progress_bar import EpochLines, progress_bar

METRICS = {"train/loss": torch.tensor(2.5), "val/loss": torch.tensor(3.25), "val/bleu4": torch.tensor(0.125)}


def trainer(**changes):
    progress = {"current_epoch": 2, "max_epochs": 9, "sanity_checking": False}
    return SimpleNamespace(**{**progress, "callback_metrics": METRICS, **changes})


def test_a_line_a_validation(capsys):
    lines = EpochLines()
    lines.on_train_start(None, None)
    lines.on_validation_end(trainer(), None)
    words = capsys.readouterr().out.strip().split("  ")
    assert words[0] == "epoch 3/9"
    assert words[1].endswith(" s")
    assert words[2:] == ["train/loss 2.500", "val/loss 3.250", "val/bleu4 0.125"]


def test_silent_in_a_sanity_check_and_on_other_ranks(capsys):
    lines = EpochLines()
    lines.on_validation_end(trainer(sanity_checking=True), None)
    lines.disable()
    lines.on_validation_end(trainer(), None)
    assert capsys.readouterr().out == ""
    lines.enable()
    lines.on_validation_end(trainer(), None)
    assert "epoch 3/9" in capsys.readouterr().out


@pytest.mark.parametrize(("terminal", "kind"), [(True, RichProgressBar), (False, EpochLines)])
def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert type(progress_bar()) is kind
