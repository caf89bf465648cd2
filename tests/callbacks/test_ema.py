"""Averaged weights: against a plain average, resumed, and whatever interrupts a validation."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from autocaption.callbacks.ema import ExponentialMovingAverage


class Line(pl.LightningModule):
    """A fit of a line, with BatchNorm and a frozen part; keeps what it was validated with."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.after_steps, self.validated = [], []

    def training_step(self, batch, batch_idx):
        x, y = batch
        return (self.net(self.frozen(x)).squeeze(1) - y).square().mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(copy_of(self))

    def on_train_batch_end(self, *_):
        self.after_steps.append((self.trainer.global_step, copy_of(self)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def copy_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def loader():
    random = torch.Generator().manual_seed(1)
    data = torch.randn(24, 3, generator=random), torch.randn(24, generator=random)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=4)


def fit(folder, epochs, path=None, decay=0.9, **options):
    model = Line()
    keeper = pl.callbacks.ModelCheckpoint(folder, save_last=True, every_n_epochs=1)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[ExponentialMovingAverage(decay), keeper],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(model, loader(), loader(), ckpt_path=path, weights_only=True)
    return model, torch.load(folder / "last.ckpt", weights_only=True)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in b)


def by_hand(after_steps, decay):
    """The average of the floating-point tensors after these steps, and how many steps they are."""
    average, steps = copy_of(Line()), 0
    for step, weights in after_steps:
        if step > steps:
            steps, d = step, min(decay, (1 + step) / (10 + step))
            for name, weight in weights.items():
                if weight.is_floating_point():
                    average[name] = d * average[name] + (1 - d) * weight
    return {name: value for name, value in average.items() if value.is_floating_point()}, steps


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "32-true"), (2, "32-true"), (1, "bf16-mixed")])
def test_the_average_follows_its_definition(tmp_path, accumulate, precision):
    model, saved = fit(tmp_path, 2, decay=0.3, accumulate_grad_batches=accumulate, precision=precision)
    expected, steps = by_hand(model.after_steps, 0.3)
    assert steps == 12 // accumulate
    for name, value in expected.items():
        torch.testing.assert_close(saved["state_dict"][name], value, atol=1e-6, rtol=1e-5)
    # What was validated last, what was saved and what is left after training are the average.
    assert equal(saved["state_dict"], model.validated[-1])
    assert equal(saved["state_dict"], copy_of(model))
    assert not torch.equal(saved["state_dict"]["net.0.weight"], model.after_steps[-1][1]["net.0.weight"])


def test_training_itself_is_not_changed_by_it(tmp_path):
    averaged, _ = fit(tmp_path, 2, decay=0.9)
    other, _ = fit(tmp_path, 2, decay=0.1)
    for (_, a), (_, b) in zip(averaged.after_steps, other.after_steps, strict=True):
        assert equal(a, b)


def test_resumed_is_uninterrupted(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, expected = fit(tmp_path / "whole", 3)
    fit(tmp_path / "parts", 1)
    resumed, saved = fit(tmp_path / "parts", 3, tmp_path / "parts/last.ckpt")
    assert equal(saved["state_dict"], expected["state_dict"])
    assert equal(saved["ema_weights"], expected["ema_weights"])
    assert equal(copy_of(resumed), copy_of(whole))
    assert equal(resumed.after_steps[-1][1], whole.after_steps[-1][1])


class Raises(pl.Callback):
    """Raises in one of the hooks, in the epoch after the first."""

    def __init__(self, hook, error):
        setattr(self, hook, lambda trainer, *_, **__: self.fail(trainer))
        self.error = error

    def fail(self, trainer):
        if trainer.current_epoch == 1:
            raise self.error


class Keeps(pl.callbacks.Checkpoint):
    """Saves a checkpoint when an exception ends the training."""

    def __init__(self, file):
        self.file = file

    def on_exception(self, trainer, *_):
        trainer.save_checkpoint(self.file)


@pytest.mark.parametrize("before", [True, False], ids=["earlier callback", "later callback"])
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize(
    "hook", ["on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end"]
)
def test_no_exception_leaves_the_average_in_place_of_the_weights(tmp_path, hook, error, before):
    model, ema = Line(), ExponentialMovingAverage(0.9)
    callbacks = [Raises(hook, error), ema] if before else [ema, Raises(hook, error)]
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "max_epochs": 3, "logger": False, "num_sanity_val_steps": 1},
        **{"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path},
        callbacks=[*callbacks, Keeps(tmp_path / "kept.ckpt")],
    )
    with pytest.raises((RuntimeError, SystemExit)):
        trainer.fit(model, loader(), loader())
    (_, weights) = model.after_steps[-1]
    assert equal(copy_of(model), weights)
    kept = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    average, _ = by_hand(model.after_steps, 0.9)
    for name, value in average.items():
        torch.testing.assert_close(kept["state_dict"][name], value)
        if name in kept["ema_weights"]:
            assert torch.equal(kept["ema_weights"][name], weights[name])


def test_a_checkpoint_saved_amid_a_validation_holds_the_average(tmp_path):
    class Saves(pl.Callback):
        def on_validation_batch_end(self, trainer, *_, **__):
            trainer.save_checkpoint(tmp_path / "amid.ckpt")

    model = Line()
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "max_epochs": 2, "logger": False, "num_sanity_val_steps": 0},
        **{"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path},
        callbacks=[ExponentialMovingAverage(0.9), Saves()],
    )
    trainer.fit(model, loader(), loader())
    saved = torch.load(tmp_path / "amid.ckpt", weights_only=True)
    for name, value in by_hand(model.after_steps, 0.9)[0].items():
        torch.testing.assert_close(saved["state_dict"][name], value)
        if name in saved["ema_weights"]:
            assert torch.equal(saved["ema_weights"][name], model.after_steps[-1][1][name])
