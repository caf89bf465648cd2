"""Legend: B images, P places, D width, K views; C channels, H height, W width."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import nn

from autocaption import build
from autocaption.data.caption_rules import words
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.features import FeatureCache
from autocaption.data.sources.flickr8k import Flickr8k
from autocaption.data.sources.shapes import Shapes
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import CenterCrop, RandomCropFlip
from autocaption.errors import UserError

ROOT = Path(__file__).parents[2]
CENTRE, RANDOM = CenterCrop(16, 1.0), RandomCropFlip(16, 0.8)  # 25 places, flipped or not


class Encoder(nn.Module):
    """Frozen; counts the pictures that it is shown."""

    image_size, out_dim = 16, 5

    def __init__(self, pooling="grid", seed=0):
        super().__init__()
        self.pooling = pooling
        torch.manual_seed(seed)
        self.grid = nn.Conv2d(3, 5, 8, stride=8).requires_grad_(False)
        self.seen = 0

    def forward(self, images_BCHW):
        self.seen += len(images_BCHW)
        grid_BPD = self.grid(images_BCHW.float() / 255).flatten(2).transpose(1, 2)
        return grid_BPD if self.pooling == "grid" else grid_BPD.mean(1, keepdim=True)


def cache(folder, encoder=None, **changes):
    settings = {"batch_size": 4, "num_workers": 2, "device": "cpu", **changes}
    return FeatureCache(str(folder), encoder or Encoder(), **settings)


def scenes(train=11):
    source = Shapes(seed=0, size=20, train=train, val=3, test=1)
    return source, source.split("train")


def made(folder):
    """Names of finished caches."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and "." not in entry.name)


def test_features_are_the_encoder_s_outputs(tmp_path):
    source, images = scenes()
    stored_BKPD = cache(tmp_path).get(source, images, CENTRE, views=1)
    assert (stored_BKPD.shape, stored_BKPD.dtype) == ((11, 1, 4, 5), np.float16)
    assert isinstance(stored_BKPD, np.memmap)
    pictures_BCHW = torch.stack([CENTRE(source.read(image), 0) for image in images])
    expected_BPD = Encoder()(pictures_BCHW)
    torch.testing.assert_close(
        torch.from_numpy(stored_BKPD[:, 0].astype(np.float32)), expected_BPD, atol=1e-3, rtol=1e-3
    )


def test_what_is_there_is_not_computed_again(tmp_path):
    source, images = scenes()
    first, second = Encoder(), Encoder()
    made_BKPD = cache(tmp_path, first).get(source, images, CENTRE, views=1)
    found_BKPD = cache(tmp_path, second).get(source, images, CENTRE, views=1)
    assert np.array_equal(made_BKPD, found_BKPD)
    assert first.seen >= 11
    assert second.seen == 0


def test_a_change_of_anything_makes_other_features(tmp_path, flickr8k):
    def get(encoder=None, transform=CENTRE, views=1, **changes):
        source = Flickr8k(str(flickr8k))
        cache(tmp_path / "features", encoder, **changes).get(source, source.split("train"), transform, views)
        return len(made(tmp_path / "features"))

    assert get() == 1
    assert get() == 1
    assert get(Encoder(seed=1)) == 2  # other weights
    assert get(transform=CenterCrop(16, 0.8)) == 3
    assert get(transform=RANDOM, views=2) == 4
    assert get(transform=RANDOM, views=3) == 5
    assert get(dtype="float32") == 6
    assert get(Encoder("mean")) == 7
    Image.new("RGB", (30, 30), "green").save(flickr8k / "Flicker8k_Dataset/t1.jpg")  # under the old name
    assert get() == 8
    assert get() == 8


def test_batch_size_and_readers_make_no_difference(tmp_path):
    source, images = scenes()
    one = cache(tmp_path / "a", batch_size=4, dtype="float32").get(source, images, CENTRE, 1)
    other = cache(tmp_path / "b", batch_size=11, num_workers=0, dtype="float32").get(
        source, images, CENTRE, 1
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert made(tmp_path / "a") == made(tmp_path / "b")


def test_views_are_the_transform_s(tmp_path):
    source, images = scenes(3)
    stored_BKPD = cache(tmp_path, dtype="float32").get(source, images, RANDOM, views=9)
    assert stored_BKPD.shape == (3, 9, 4, 5)
    picture = source.read(images[2])
    possible = Encoder()(torch.stack([RANDOM(picture, seed) for seed in range(600)]))
    for view_PD in torch.from_numpy(np.array(stored_BKPD[2])):
        assert (possible - view_PD).abs().amax((1, 2)).min() < 1e-5
    assert len(np.unique(stored_BKPD[2].round(4), axis=0)) > 2


# A process that is killed, or not, while it encodes; it writes the number of every picture it reads.
PROCESS = """
import os, signal, sys
from autocaption.data.sources.shapes import Shapes
from tests.data.test_features import CENTRE, Encoder, cache

class Noted(Shapes):
    def read(self, image):
        with open("read.txt", "a") as file:
            file.write(image.id + os.linesep)
        return super().read(image)

class Mortal(Encoder):
    def forward(self, images_BCHW):
        if self.seen >= int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images_BCHW)

source = Noted(seed=0, size=20, train=1200, val=3, test=1)
cache("features", Mortal(), batch_size=40).get(source, source.split("train"), CENTRE, 1)
"""


def start(folder, life):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), str(life)]
    return subprocess.Popen(command, cwd=folder, env=environment)


def whole(tmp_path):
    """The features of PROCESS's data, computed undisturbed."""
    source, images = scenes(1200)
    return cache(tmp_path / "whole", batch_size=40).get(source, images, CENTRE, 1)


def test_killed_in_the_middle_it_goes_on(tmp_path):
    assert start(tmp_path, 900).wait() == -signal.SIGKILL
    assert made(tmp_path / "features") == []
    (tmp_path / "read.txt").unlink()
    assert start(tmp_path, 10**9).wait() == 0
    read = (tmp_path / "read.txt").read_text().split()
    # Once each for the name; of the 900 that were encoded, no more than SAVE_EVERY and a batch again.
    assert 1200 + 300 <= len(read) <= 1200 + 300 + 512 + 41
    (name,) = made(tmp_path / "features")
    np.testing.assert_array_equal(np.load(tmp_path / "features" / name / "features.npy"), whole(tmp_path))


def test_two_at_once_compute_it_once(tmp_path):
    both = [start(tmp_path, 10**9) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    read = (tmp_path / "read.txt").read_text().split()
    assert len(read) == 2 * 1200 + 1201  # for both names, for the features, and one for their shape
    (name,) = made(tmp_path / "features")
    np.testing.assert_array_equal(np.load(tmp_path / "features" / name / "features.npy"), whole(tmp_path))


def test_a_full_disk_leaves_nothing(tmp_path):
    source, images = scenes(400)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))  # like a disk with 8 kB left
    try:
        with pytest.raises(UserError, match=r"no room .* data\.features_folder") as raised:
            cache(tmp_path / "features").get(source, images, CENTRE, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.strerror(errno.EFBIG) in str(raised.value)
    assert made(tmp_path / "features") == []
    assert not list((tmp_path / "features").rglob("*.npy"))
    cache(tmp_path / "features").get(source, images, CENTRE, 1)
    assert len(made(tmp_path / "features")) == 1


def test_a_broken_picture_is_named(tmp_path, flickr8k):
    source = Flickr8k(str(flickr8k))
    broken = flickr8k / "Flicker8k_Dataset" / "t2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match=r"broken image: .*t2\.jpg"):
        cache(tmp_path / "features").get(source, source.split("train"), CENTRE, 1)
    assert made(tmp_path / "features") == []


def test_an_encoder_in_training_has_no_features(tmp_path):
    with pytest.raises(UserError, match=r"model\.encoder\.trainable=none"):
        cache(tmp_path, Encoder().requires_grad_(True))


def batches_of(tmp_path, epoch, seed=3, **changes):
    source, images = scenes()
    tokenizer = Tokenizer(words, min_count=1, max_length=5).fit(t for image in images for t in image.captions)
    data = CaptionDataModule(
        source, tokenizer, RANDOM, CENTRE, 4, 0, seed, features=cache(tmp_path), **changes
    )
    data.prepare("train", "val")
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
    torch.testing.assert_close(first[image.id], expected_PD, atol=1e-3, rtol=1e-3)


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
