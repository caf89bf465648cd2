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


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "32-true"), (2, "32-true"), (1, "bf16-mixed")])
def test_the_average_follows_its_definition(tmp_path, accumulate, precision):
    model, saved = fit(tmp_path, 2, decay=0.3, accumulate_grad_batches=accumulate, precision=precision)
    expected, steps = copy_of(Line()), 0
    for step, weights in model.after_steps:
        if step > steps:
            steps, decay = step, min(0.3, (1 + step) / (10 + step))
            for name, weight in weights.items():
                if weight.is_floating_point():
                    expected[name] = decay * expected[name] + (1 - decay) * weight
    assert steps == 12 // accumulate
    for name, value in saved["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
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
