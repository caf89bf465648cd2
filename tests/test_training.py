"""What a training run does to the model, its logs and its files, against independent oracles."""

import json

import pytest
import pytorch_lightning as pl
import torch
from helpers.commands import TINY
from helpers.configs import composed_with

from autocaption import build, experiment
from autocaption.runs import checkpoint


def configured(folder, *words):
    folder.mkdir(exist_ok=True)
    logs = ("logger=csv", "trainer.log_every_n_steps=1")
    return composed_with({"run_dir": str(folder)}, *TINY, *logs, "trainer=cpu", *words)


def train(folder, *words):
    """The weights of last.ckpt after a run of the command's own function."""
    experiment.train(configured(folder, *words))
    return weights(folder)


def weights(folder, name="last"):
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]


def rows(folder):
    """The CSV's rows as dicts of the values that are there."""
    (file,) = folder.glob("csv/metrics.csv")
    head, *lines = file.read_text().split()
    pairs = [zip(head.split(","), line.split(","), strict=True) for line in lines]
    return [{name: float(value) for name, value in row if value} for row in pairs]


def logged(folder, name):
    return [row[name] for row in rows(folder) if name in row]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_dropout_is_drawn_from_the_step_and_not_from_what_was_drawn_before(tmp_path, monkeypatch):
    words = ("model.decoder.dropout=0.5", "test=false")
    expected = train(tmp_path / "one", *words)
    draws = build.trainer

    def after_more_randomness(*arguments):
        torch.rand(1000)
        return draws(*arguments)

    monkeypatch.setattr(build, "trainer", after_more_randomness)
    assert same(train(tmp_path / "two", *words), expected)
    assert not same(train(tmp_path / "three", *words, "seed=1"), expected)


def test_gradients_are_clipped_to_the_norm(tmp_path):
    words = (
        "optimizer._target_=torch.optim.SGD",
        "~optimizer.betas",
        "optimizer.lr=1",
        "trainer.max_steps=1",
    )
    words += ("optimizer.weight_decay=0", "schedule.warmup=0", "test=false", "trainer.gradient_clip_val=1e-3")
    words += ("callbacks=none",)
    config = configured(tmp_path, *words)
    pl.seed_everything(config.seed, verbose=False)
    data, captioner = build.from_config(config)
    before = {name: p.detach().clone() for name, p in captioner.named_parameters()}
    trainer = build.trainer(config)
    trainer.fit(captioner, data)
    moved = torch.cat([(p.detach() - before[name]).flatten() for name, p in captioner.named_parameters()])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_a_fused_optimizer_clips_under_bf16(tmp_path, algorithm):
    words = ("trainer.precision=bf16-mixed", f"+trainer.gradient_clip_algorithm={algorithm}", "test=false")
    free = train(tmp_path / "free", *words, "trainer.gradient_clip_val=null")
    clipped = train(tmp_path / "clipped", *words, "trainer.gradient_clip_val=1e-9")
    assert not same(free, clipped)


def test_scheduled_sampling_takes_hold_after_the_first_step(tmp_path):
    words = ("test=false", "trainer.max_epochs=4", "optimizer.lr=0.01")
    forced = train(tmp_path / "forced", *words)
    sampled = train(tmp_path / "sampled", *words, "scheduled_sampling=1.0")
    assert not same(forced, sampled)
    first, *others = zip(
        *(logged(tmp_path / name, "train/loss") for name in ("forced", "sampled")), strict=True
    )
    assert first[0] == first[1]  # the share rises from 0
    assert any(a != b for a, b in others)


def test_train_perplexity_is_that_of_the_unsmoothed_loss(tmp_path):
    words = ("model.loss.label_smoothing=0.5", "trainer.max_steps=1", "test=false", "model.decoder.dropout=0")
    config = configured(tmp_path, *words)
    pl.seed_everything(config.seed, verbose=False)
    data, captioner = build.from_config(config)
    data.trainer = None
    batch = next(iter(data.train_dataloader()))
    captioner.train()
    objective = captioner.loss(captioner.decoder, captioner.memory(batch), batch)
    nll, total = objective.logged["loss"], objective.total()
    experiment.train(config)
    assert logged(tmp_path, "train/perplexity")[0] == pytest.approx(nll.exp().item(), rel=1e-5)
    assert logged(tmp_path, "train/loss")[0] == pytest.approx(nll.item(), rel=1e-5)
    assert logged(tmp_path, "train/objective")[0] == pytest.approx(total.item(), rel=1e-5)
    assert abs(total - nll) > 1e-3


def test_metrics_of_an_epoch_are_those_of_its_weights_alone(tmp_path):
    train(tmp_path, "optimizer.lr=0.05", "test=false")
    saved = checkpoint.load(tmp_path / "checkpoints/last.ckpt")
    data, captioner = build.from_checkpoint(configured(tmp_path), saved)
    (again,) = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False).validate(
        captioner, data
    )
    for name in ("val/loss", "val/bleu1"):
        assert logged(tmp_path, name)[-1] == pytest.approx(again[name], rel=1e-5)
    assert logged(tmp_path, "val/loss")[0] != pytest.approx(again["val/loss"], rel=1e-3)


def test_every_validation_prints_a_line(tmp_path, capsys):
    train(tmp_path, "test=false")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(name in line for line in lines for name in ("train/loss", "val/loss", "val/bleu4"))


class Interrupt(pl.Callback):
    """Ends the run after its first epoch, as a crash does."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("crash")


def test_a_self_critical_run_that_crashed_resumes_as_if_it_had_not(tmp_path):
    words = ("callbacks=ema", "model/loss=self_critical", "optimizer.lr=1e-2")
    words += ("trainer.max_epochs=3", "model.decoder.dropout=0.3", "scheduled_sampling=0.3")
    train(tmp_path / "whole", *words)
    crash = "+callbacks.crash={_target_: test_training.Interrupt}"
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path / "parts", *words, crash)
    train(tmp_path / "parts", *words, f"resume={tmp_path}/parts")
    for name in ("best", "last"):
        assert same(weights(tmp_path / "parts", name), weights(tmp_path / "whole", name)), name
    for file in ("metrics.json", "captions.json"):
        found, expected = (json.loads((tmp_path / run / file).read_text()) for run in ("parts", "whole"))
        assert found == expected, file
