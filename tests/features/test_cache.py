"""The feature cache: content, keys, crashes, two processes, full disks.

Legend: B images, P places, D width, K views; C channels, H height, W width.
"""

import errno
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.features import CENTRE, RANDOM, Encoder, cache, scenes
from helpers.processes import exit_codes, forked
from PIL import Image

from autocaption.data.sources.flickr8k import flickr8k as source_of
from autocaption.data.sources.shapes import Shapes
from autocaption.data.transforms import Square
from autocaption.errors import UserError


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


def test_encoding_leaves_torch_its_threads(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cache(tmp_path).get(*scenes(), CENTRE, views=1)
        with ThreadPoolExecutor(1) as later:
            assert (torch.get_num_threads(), later.submit(torch.get_num_threads).result()) == (2, 2)
    finally:
        torch.set_num_threads(before)


def test_existing_features_are_not_recomputed(tmp_path):
    source, images = scenes()
    first, second = Encoder(), Encoder()
    made_BKPD = cache(tmp_path, first).get(source, images, CENTRE, views=1)
    found_BKPD = cache(tmp_path, second).get(source, images, CENTRE, views=1)
    assert np.array_equal(made_BKPD, found_BKPD)
    assert first.seen >= 11
    assert second.seen == 0


def test_any_change_gives_other_features(tmp_path, flickr8k):
    def get(encoder=None, transform=CENTRE, views=1, **changes):
        source = source_of(str(flickr8k))
        cache(tmp_path / "features", encoder, **changes).get(source, source.split("train"), transform, views)
        return len(made(tmp_path / "features"))

    assert get() == 1
    assert get() == 1
    assert get(Encoder(seed=1)) == 2  # other weights
    assert get(transform=Square(16, 0.8)) == 3
    assert get(transform=RANDOM, views=2) == 4
    assert get(transform=RANDOM, views=3) == 5
    assert get(dtype="float32") == 6
    assert get(Encoder("mean")) == 7
    Image.new("RGB", (30, 30), "green").save(flickr8k / "Flicker8k_Dataset/t1.jpg")  # under the old name
    assert get() == 8
    assert get() == 8


def test_batch_size_and_devices_change_nothing(tmp_path):
    source, images = scenes()
    one = cache(tmp_path / "a", batch_size=4, dtype="float32").get(source, images, CENTRE, 1)
    other = cache(tmp_path / "b", batch_size=3, devices=[torch.device("cpu")] * 3, dtype="float32").get(
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


class Noted(Shapes):
    """Writes down the number of every picture that is read."""

    def read(self, image, least=None):
        with open("read.txt", "a") as file:
            print(image.id, file=file)
        return super().read(image, least)


class Mortal(Encoder):
    """Kills its process once it has seen so many pictures."""

    def __init__(self, life):
        super().__init__()
        self.life = life

    def forward(self, images_BCHW):
        if self.seen >= self.life:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images_BCHW)


def encode(folder, life=10**9):
    """What a process does."""
    os.chdir(folder)
    source = Noted(seed=0, size=20, train=1200, val=3, test=1)
    cache("features", Mortal(life), batch_size=40).get(source, source.split("train"), CENTRE, 1)


def whole(tmp_path):
    """The same features, computed undisturbed."""
    source, images = scenes(1200)
    return cache(tmp_path / "whole", batch_size=40).get(source, images, CENTRE, 1)


def test_continues_after_a_kill(tmp_path):
    assert exit_codes(forked(encode, tmp_path, 900)) == [-signal.SIGKILL]
    assert made(tmp_path / "features") == []
    (tmp_path / "read.txt").unlink()
    assert exit_codes(forked(encode, tmp_path)) == [0]
    read = (tmp_path / "read.txt").read_text().split()
    # Once each for the name; of the 900 that were encoded, no more than SAVE_EVERY and a batch again.
    assert 1200 + 300 <= len(read) <= 1200 + 300 + 512 + 41
    (name,) = made(tmp_path / "features")
    np.testing.assert_array_equal(np.load(tmp_path / "features" / name / "features.npy"), whole(tmp_path))


def test_two_at_once_compute_it_once(tmp_path):
    assert exit_codes(*(forked(encode, tmp_path) for _ in range(2))) == [0, 0]
    read = (tmp_path / "read.txt").read_text().split()
    assert len(read) == 2 * 1200 + 1201  # for both names, for the features, and one for their shape
    (name,) = made(tmp_path / "features")
    np.testing.assert_array_equal(np.load(tmp_path / "features" / name / "features.npy"), whole(tmp_path))


@pytest.mark.parametrize("suffix", ["", ".partial"])
@pytest.mark.parametrize("left", [None, 0, 300])
def test_damaged_features_are_named(tmp_path, suffix, left):
    source, images = scenes()
    cache(tmp_path).get(source, images, CENTRE, 1)
    (whole,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folder = whole.rename(f"{whole}{suffix}")
    file = folder / "features.npy"
    if left is None:
        file.unlink()
    else:
        os.truncate(file, left)
    with pytest.raises(UserError, match=f"^the features in {folder} are damaged .*; remove the folder"):
        cache(tmp_path).get(source, images, CENTRE, 1)


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
    source = source_of(str(flickr8k))
    broken = flickr8k / "Flicker8k_Dataset" / "t2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match=r"broken image: .*t2\.jpg"):
        cache(tmp_path / "features").get(source, source.split("train"), CENTRE, 1)
    assert made(tmp_path / "features") == []


@pytest.mark.parametrize(("bias", "dtype"), [(float("nan"), "float16"), (1e5, "float16"), (1e5, "float32")])
def test_features_that_are_not_finite_are_refused(tmp_path, flickr8k, bias, dtype):
    source, encoder = source_of(str(flickr8k)), Encoder()
    encoder.grid.bias.data[2] = bias
    features = cache(tmp_path / "features", encoder, dtype=dtype)
    if dtype == "float32":  # 1e5 fits
        assert features.get(source, source.split("train"), CENTRE, 1).max() > 9e4
        return
    with pytest.raises(UserError, match=r"t1\.jpg is not finite in float16; .*data\.features_dtype=float32"):
        features.get(source, source.split("train"), CENTRE, 1)
    assert made(tmp_path / "features") == []


def test_autocast_is_a_part_of_the_name_and_of_the_values(tmp_path):
    source, images = scenes()
    full, half = (
        cache(tmp_path, dtype="float32", autocast=kind).get(source, images, CENTRE, 1)
        for kind in (None, torch.bfloat16)
    )
    assert len(made(tmp_path)) == 2
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.02)
    assert np.array_equal(half, torch.from_numpy(half.copy()).bfloat16().float().numpy())


def test_an_encoder_in_training_has_no_features(tmp_path):
    with pytest.raises(UserError, match=r"model\.encoder\.trainable=none"):
        cache(tmp_path, Encoder().requires_grad_(True))
