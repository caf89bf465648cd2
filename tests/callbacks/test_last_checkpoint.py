"""A training resumed from any moment equals an uninterrupted one, to the last bit and the last CSV row."""

import json
import logging
import multiprocessing
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from helpers.configs import composed_with

from autocaption import experiment
from autocaption.callbacks.last_checkpoint import LastCheckpoint
from autocaption.runs.run import STOPS, PreemptedError

WORDS = [
    *("data.source.train=40", "data.source.val=20", "data.source.test=4", "data.batch_size=8"),
    *("data.source.size=32", "model.encoder.image_size=32", "model.encoder.width=2", "search.max_length=4"),
    *("model.encoder.out_dim=8", "model.decoder.embed_dim=8", "model.decoder.hidden_dim=8", "search=greedy"),
    *("tokenizer.min_count=1", "trainer=cpu", "logger=csv"),
    *("data/augment=crop_and_flip", "data.augment_crop=0.8"),
    *("trainer.max_epochs=2", "trainer.log_every_n_steps=1", "model.decoder.dropout=0.3", "test=false"),
]
VARIANTS = {
    "plain": [],
    "ema, accumulation, bf16": [
        *("callbacks=ema", "trainer.accumulate_grad_batches=2", "trainer.precision=bf16-mixed"),
    ],
    "validation amid an epoch, scheduled sampling": [
        *("trainer.val_check_interval=0.4", "scheduled_sampling=0.5", "callbacks=ema"),
    ],
    "an epoch without validation": ["trainer.check_val_every_n_epoch=2"],
    "workers": ["data.num_workers=2"],
    "early stopping": [
        *("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "optimizer.lr=0"),
        *("trainer.val_check_interval=0.4", "trainer.max_epochs=3"),
    ],
    "early stopping at the end of an epoch": [
        *("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=0"),
        "trainer.max_epochs=3",
    ],
    "steps that end amid an epoch": ["trainer.max_steps=8"],
}


def train(folder, *words, **values):
    folder.mkdir(exist_ok=True)
    experiment.train(composed_with({"run_dir": str(folder), **values}, *WORDS, *words))


def left(folder):
    """The weights, the CSV and the metrics at the end."""
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    tensors = {**saved["state_dict"], **{f"ema {k}": v for k, v in saved.get("ema_weights", {}).items()}}
    return tensors, [(folder / name).read_text() for name in ("csv/metrics.csv", "metrics.json")]


def assert_same(folder, whole):
    (tensors, text), (expected, expected_text) = left(folder), left(whole)
    assert tensors.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []
    assert text == expected_text


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def whole(request, tmp_path_factory):
    """(folder of an uninterrupted run, its overrides)."""
    folder = tmp_path_factory.mktemp("whole")
    copies = "callbacks.last._target_=helpers.interruptions.Copies"
    train(folder, *request.param, copies, "callbacks.last.every_n_steps=1")
    return folder, request.param


def test_resumes_exactly_from_every_checkpoint(whole, tmp_path):
    folder, words = whole
    checkpoints = sorted((folder / "checkpoints").glob("copy-*"))
    assert len(checkpoints) >= 5
    chosen = checkpoints if not words else [*checkpoints[1:-1:3], checkpoints[-1]]
    for checkpoint in [*chosen, folder / "checkpoints/best.ckpt"]:
        again = tmp_path / checkpoint.stem
        shutil.copytree(folder, again, ignore=shutil.ignore_patterns("copy-*", "*.lock"))
        shutil.copy(checkpoint, again / "checkpoints" / checkpoint.name)
        train(again, *words, resume=f"{again}/checkpoints/{checkpoint.name}")
        assert_same(again, folder)


@pytest.mark.parametrize(
    ("batch_size", "steps"),
    [(4, 2 + 6 + 10), (16, 2 + 2 + 3), (12, 2 + 4 + 4)],  # of 12, none ends after 16 images: the epoch anew
)
def test_another_batch_size_counts_the_epoch_anew(whole, tmp_path, batch_size, steps):
    folder, words = whole
    if words:
        pytest.skip("as in the plain variant")
    shutil.copytree(folder, tmp_path / "other", ignore=shutil.ignore_patterns("*.lock"))
    second = tmp_path / "other/checkpoints/copy-01.ckpt"
    assert torch.load(second, weights_only=True)["global_step"] == 2
    train(tmp_path / "other", f"data.batch_size={batch_size}", resume=str(second))
    saved = torch.load(tmp_path / "other/checkpoints/last.ckpt", weights_only=True)
    assert (saved["global_step"], saved["epoch"]) == (steps, 1)


@pytest.mark.parametrize("moment", [0, 2, 5, 7, 9])
def test_a_signal_at_any_moment_stops_and_resumes_exactly(whole, tmp_path, moment):
    folder, words = whole
    if words and moment in (2, 9):
        pytest.skip("covered by the plain variant")
    kick = {"callbacks.kick": {"_target_": "helpers.interruptions.Kick", "moment": moment}}
    with pytest.raises(PreemptedError) as stopped:
        train(tmp_path / "parts", *words, **kick)
    assert stopped.value.code == 143
    assert multiprocessing.active_children() == []
    train(tmp_path / "parts", *words, resume=f"{tmp_path}/parts")
    assert_same(tmp_path / "parts", folder)


def test_a_signal_after_the_last_validation_stops_before_the_test(whole, tmp_path):
    folder, words = whole
    if words:
        pytest.skip("as in the plain variant")
    handlers = [signal.getsignal(number) for number in STOPS]
    kick = {"callbacks.kick": {"_target_": "helpers.interruptions.KickAfterValidation"}}
    with pytest.raises(PreemptedError):
        train(tmp_path / "parts", **kick)
    assert [signal.getsignal(number) for number in STOPS] == handlers
    train(tmp_path / "parts", resume=f"{tmp_path}/parts")
    assert_same(tmp_path / "parts", folder)


def test_a_run_that_its_steps_ended_amid_an_epoch_goes_on_there_with_more_steps(tmp_path):
    steady = ("schedule.warmup=0", "schedule.final=1", "trainer.max_epochs=-1")
    train(tmp_path / "whole", *steady, "trainer.max_steps=8")
    train(tmp_path / "parts", *steady, "trainer.max_steps=3")
    train(tmp_path / "parts", *steady, "trainer.max_steps=8", resume=f"{tmp_path}/parts")
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_a_checkpoint_of_the_users_own_knows_on_resume_of_the_validation_before(tmp_path):
    worst = {"monitor": "val/loss", "mode": "max", "filename": "worst", "enable_version_counter": False}
    own = {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", **worst}
    for epochs, resume in [(1, None), (2, str(tmp_path))]:
        train(tmp_path, f"trainer.max_epochs={epochs}", resume=resume, **{"callbacks.worst": own})
    assert torch.load(tmp_path / "checkpoints/worst.ckpt", weights_only=True)["global_step"] == 5


def test_a_run_that_stopped_early_goes_on_only_with_more_patience(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = ("callbacks=early_stopping", "optimizer.lr=0", "trainer.max_epochs=6")
    epochs = []
    for patience, resume in [(1, None), (1, str(tmp_path)), (3, str(tmp_path))]:
        train(tmp_path, *words, f"callbacks.early_stopping.patience={patience}", resume=resume)
        epochs.append(json.loads((tmp_path / "metrics.json").read_text())["epochs"])
    assert epochs == [2, 2, 4]  # with a learning rate of 0, the first validation is the best
    said = [record.message for record in caplog.records if "Stopped early" in record.message]
    assert ["in the last 1 records" in line for line in said] == [True, True, False]


def test_what_loggers_hold_back_is_written_before_the_checkpoint(tmp_path):
    order = []
    trainer = SimpleNamespace(
        is_global_zero=True,
        global_step=3,
        loggers=[SimpleNamespace(commit=lambda: order.append("commit")), SimpleNamespace()],
        save_checkpoint=lambda path: order.append(path.name),
    )
    LastCheckpoint(str(tmp_path), every_n_steps=0, every_n_minutes=0, keep=2).save(trainer)
    assert order == ["commit", "last.ckpt"]
