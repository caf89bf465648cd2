"""Training on stored features equals training on pictures.

Legend: B images, P places, D width.
"""

import pytest
import pytorch_lightning as pl
import torch
from helpers import ROOT
from helpers.features import CENTRE, RANDOM, Encoder, cache, scenes
from hydra import compose, initialize_config_dir

from autocaption import build
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.tokenizer import WordTokenizer, words


def batches_of(tmp_path, epoch, seed=3, **changes):
    source, images = scenes()
    tokenizer = WordTokenizer(words, min_count=1, max_length=5).fit(
        t for image in images for t in image.captions
    )
    data = CaptionDataModule(
        source, tokenizer, RANDOM, CENTRE, 4, 0, seed, features=cache(tmp_path), **changes
    )
    data.preload("train", "val")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    names = [name for batch in batches for name in batch.ids]
    assert all(batch.images_BCHW is None for batch in batches)
    return dict(zip(names, torch.cat([batch.features_BPD for batch in batches]), strict=True)), data


def test_a_batch_draws_its_views_by_seed_and_epoch(tmp_path):
    first, _ = batches_of(tmp_path, 0, feature_views=6)
    for epoch, seed, same in ((0, 3, True), (1, 3, False), (0, 4, False)):
        other, _ = batches_of(tmp_path, epoch, seed, feature_views=6)
        share = sum(torch.equal(first[name], other[name]) for name in first) / len(first)
        assert share == 1 if same else share < 0.8


def test_without_views_training_sees_the_centre(tmp_path):
    first, data = batches_of(tmp_path, 0)
    other, _ = batches_of(tmp_path, 5)
    assert all(torch.equal(first[name], other[name]) for name in first)
    image = data.source.split("train")[4]
    expected_PD = Encoder()(CENTRE(data.source.read(image), 0)[None])[0]
    torch.testing.assert_close(first[image.id].float(), expected_PD, atol=1e-3, rtol=1e-3)


def losses(folder, cached, pooling):
    """Of six training steps with a frozen encoder, on its stored features or on pictures."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = ("model.encoder.image_size=16", "model.encoder.out_dim=5", "data.batch_size=8")
        sizes = ("data.source.train=24", "data.source.val=2", "data.source.test=2", "tokenizer.min_count=1")
        config = compose("train", [*words, *sizes])
    torch.manual_seed(0)
    data, captioner = build.from_config(config)
    captioner.encoder = Encoder(pooling)
    data.features = cache(folder, captioner.encoder) if cached else None
    found = []

    class Note(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert (batch.features_BPD is not None) == cached
            found.append(outputs["loss"].item())

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    torch.manual_seed(0)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=[Note()], limit_val_batches=0, **quiet)
    trainer.fit(captioner, data)
    return found


@pytest.mark.parametrize("pooling", ["mean", "grid"])
def test_training_from_features_and_from_pictures_is_the_same(tmp_path, pooling):
    pictures, features = (losses(tmp_path, cached, pooling) for cached in (False, True))
    assert len(pictures) == 6
    assert pictures == pytest.approx(features, rel=1e-3)
    assert pictures[-1] < pictures[0]
