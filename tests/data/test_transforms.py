"""Pictures as the encoder gets them. Legend: C channels, H height, W width."""

import numpy as np
import pytest
import torch
from PIL import Image

from autocaption.data.transforms import CenterCrop, RandomCropFlip


def noise(width, height):
    values = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def pixels(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize("transform", [CenterCrop(24, 0.875), RandomCropFlip(24, 0.875), CenterCrop(24, 1.0)])
@pytest.mark.parametrize("size", [(24, 24), (50, 31), (31, 50), (10, 9)])
def test_shape_and_type(transform, size):
    picture_CHW = transform(noise(*size), seed=1)
    assert picture_CHW.shape == (3, 24, 24)
    assert picture_CHW.dtype == torch.uint8


def test_evaluation_takes_the_centre():
    wide, tall = noise(40, 20), noise(20, 40)  # no resizing at these sizes, so pixels stay exact
    assert torch.equal(CenterCrop(20, 1.0)(wide, 0), pixels(wide.crop((10, 0, 30, 20))))
    assert torch.equal(CenterCrop(20, 1.0)(tall, 0), pixels(tall.crop((0, 10, 20, 30))))
    assert torch.equal(CenterCrop(10, 0.5)(wide, 0), pixels(wide.crop((15, 5, 25, 15))))


def test_evaluation_crop_is_deterministic():
    picture = noise(50, 31)
    views = [CenterCrop(24, 0.8)(picture, seed) for seed in range(4)]
    assert all(torch.equal(view, views[0]) for view in views)


def test_training_crops_are_windows_of_the_picture_flipped_or_not():
    picture = noise(12, 10)
    windows = {}
    for x in range(5):
        for y in range(3):
            window_CHW = pixels(picture.crop((x, y, x + 8, y + 8)))
            windows[window_CHW.numpy().tobytes()] = (x, y, False)
            windows[window_CHW.flip(-1).contiguous().numpy().tobytes()] = (x, y, True)
    transform = RandomCropFlip(8, 0.8)
    seen = {windows[transform(picture, seed).contiguous().numpy().tobytes()] for seed in range(300)}
    assert seen == set(windows.values())  # all 30 views, and none else


def test_training_depends_on_the_seed_only():
    picture, transform = noise(50, 31), RandomCropFlip(16, 0.5)
    torch.manual_seed(1)
    first_CHW = transform(picture, 7)
    torch.manual_seed(2)
    transform(picture, 8)
    assert torch.equal(transform(picture, 7), first_CHW)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    RandomCropFlip(16, 0.5)(noise(50, 31), 7)
    assert torch.equal(torch.rand(4), expected)


def test_repr_holds_all_settings():
    kinds, sizes, crops = (CenterCrop, RandomCropFlip), (8, 9), (0.5, 1)
    variants = [kind(size, crop) for kind in kinds for size in sizes for crop in crops]
    assert len({repr(variant) for variant in variants}) == len(variants)
    assert repr(CenterCrop(8, 0.5)) == repr(CenterCrop(8, 0.5))


def test_large_pictures_are_shrunk_without_aliasing():
    picture = noise(400, 400)  # a shrunk pixel is the mean of 16 x 16, all but grey
    found_CHW = CenterCrop(25, 1.0)(picture, 0).float()
    expected_CHW = pixels(picture.resize((25, 25), Image.Resampling.BILINEAR)).float()
    assert (found_CHW - expected_CHW).abs().max() <= 1


@pytest.mark.parametrize("crop", [1.0, 0.8])
@pytest.mark.parametrize("size", [(120, 60), (60, 120), (80, 80)])
def test_what_a_view_says_it_sees_is_what_it_shows(size, crop):
    view, picture = CenterCrop(40, crop), Image.new("RGB", size, "black")
    left, top, right, bottom = view.seen(*size)
    edges = [round(share * side) for share, side in zip((left, top, right, bottom), size * 2, strict=True)]
    picture.paste("white", tuple(edges))
    assert view(picture, 0)[:, 1:-1, 1:-1].min() > 200
    picture.paste("black", (0, 0, edges[0] + 8, size[1]))  # 8 pixels less on the left are missed
    assert view(picture, 0)[:, 20, 1].max() < 50
