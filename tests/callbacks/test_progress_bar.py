"""The line that a training prints after each validation."""

import io
import sys
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from torch import nn

from autocaption.callbacks import progress_bar
from autocaption.callbacks.progress_bar import EpochLines


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        self.log("train/loss", 2.0)
        self.log("train/perplexity", 7.4)
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.log_dict({"val/loss": 1.23456, "val/bleu4": 0.25, "val/bleu2": 0.5})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, bar, epochs=2):
    data = torch.utils.data.DataLoader(torch.zeros(4, 1), batch_size=2)
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "max_epochs": epochs, "logger": False, "num_sanity_val_steps": 1},
        **{"enable_checkpointing": False, "enable_model_summary": False, "default_root_dir": folder},
        callbacks=[bar],
    )
    trainer.fit(Module(), data, data)


@pytest.fixture
def clock(monkeypatch):
    """Time as the module sees it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_prints_epoch_seconds_and_metrics_after_each_validation(tmp_path, capsys, clock):
    class Slow(EpochLines):
        def on_train_epoch_start(self, *_):
            clock.now += 61.4

    clock.now -= 30  # building the model is not training
    bar = Slow()
    clock.now += 30
    fit(tmp_path, bar)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2  61 s  train/loss 2.000  val/loss 1.235  val/bleu4 0.250",
        "epoch 2/2  123 s  train/loss 2.000  val/loss 1.235  val/bleu4 0.250",
    ]


def test_other_ranks_print_nothing(tmp_path, capsys, monkeypatch):
    bar = EpochLines()
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    fit(tmp_path, bar)
    assert capsys.readouterr().out == ""


def test_prints_again_once_enabled(tmp_path, capsys):
    bar = EpochLines()
    trainer = SimpleNamespace(sanity_checking=False, callback_metrics={}, current_epoch=0, max_epochs=1)
    bar.disable()
    bar.on_validation_end(trainer, None)
    assert capsys.readouterr().out == ""
    bar.enable()
    bar.on_validation_end(trainer, None)
    assert capsys.readouterr().out.startswith("epoch 1/1  ")
    trainer.max_epochs = -1  # time ends the training
    bar.on_validation_end(trainer, None)
    assert capsys.readouterr().out.startswith("epoch 1  ")


@pytest.mark.parametrize(("terminal", "kind"), [(True, RichProgressBar), (False, EpochLines)])
def test_a_bar_in_a_terminal_and_lines_elsewhere(monkeypatch, terminal, kind):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    assert isinstance(progress_bar.progress_bar(), kind)
