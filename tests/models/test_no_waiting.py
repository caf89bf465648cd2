"""A training step never asks the device for a value: the layout of a batch is worked out in collate."""

import pytest
import pytorch_lightning as pl
import torch
from helpers.configs import composed
from helpers.decoders import LANGUAGE_MODEL, require_extra
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode

from autocaption import build
from autocaption.data.packing import Layout
from autocaption.data.tensors import HostCopy

# What returns a number to the host, or a tensor whose size depends on values. On a GPU multinomial asks
# within whether what it is given is valid.
WAITS = {
    *("_local_scalar_dense", "nonzero", "masked_select", "multinomial"),
    *("unique_dim", "_unique2", "unique_consecutive"),
}


class Waits(TorchDispatchMode):
    """Notes every operation that makes the host wait for the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if name in WAITS or by_mask:
            self.found.append(name)
        return func(*args, **kwargs or {})


class DuringSteps(pl.Callback):
    """Watches from the start of each training step to its end, optimizer included."""

    def __init__(self):
        self.waits = Waits()

    def on_train_batch_start(self, *_):
        self.waits.__enter__()

    def on_train_batch_end(self, *_):
        self.waits.__exit__(None, None, None)


# m2 is the transformer, and more.
MODELS = ("show_and_tell", "show_attend_tell", "m2", "updown", "language_model")


@pytest.mark.parametrize(
    "change", ["scheduled_sampling=0.5", "model/loss=self_critical"]
)  # 0 at the first step
@pytest.mark.parametrize("model", MODELS)
def test_a_training_step_waits_for_nothing(monkeypatch, model, change):
    """But for samples, which self-critical training takes to the host once a step, by a HostCopy."""
    copies, take = [], HostCopy.wait
    monkeypatch.setattr(HostCopy, "wait", lambda copy: (copies.append(copy), take(copy))[1])
    monkeypatch.setattr("autocaption.search.sampling.ASKED_ON", ())  # as on a GPU
    monkeypatch.setattr("autocaption.models.decoders.attention.HAND_WRITTEN_ON", ())  # as on a GPU
    sizes = ("data.source.train=12", "data.source.val=2", "data.source.size=20", "tokenizer.min_count=1")
    short = ("search.max_length=4", "model.encoder.width=4", "model.encoder.image_size=32")
    require_extra(model)
    chosen = "model/decoder" if model == "language_model" else "model"
    config = composed(f"{chosen}={model}", "data.batch_size=4", change, *sizes, *short).copy()
    if model == "language_model":
        OmegaConf.update(config, "model.decoder", LANGUAGE_MODEL, force_add=True)
    data, captioner = build.from_config(config)
    watch = DuringSteps()
    monkeypatch.setattr(Layout, "of", lambda tokens_BNT: watch.waits.found.append("Layout.of"))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings = {"accelerator": "cpu", "max_epochs": 1, "limit_val_batches": 0, "gradient_clip_val": 1.0}
    trainer = pl.Trainer(callbacks=[watch], **settings, **quiet)
    trainer.fit(captioner, data)
    assert trainer.global_step == 3
    assert watch.waits.found == []
    assert len(copies) == (3 if "self_critical" in change else 0)


def test_asking_for_a_layout_waits():
    with Waits() as waits:
        torch.tensor([[1, 0]])[torch.tensor([[True, False]])]
        torch.tensor(1).item()
    assert waits.found == ["index", "_local_scalar_dense"]
