"""Pictures as the encoder gets them. Legend: C channels, H height, W width."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.augmentation import crop_and_flip
from PIL import Image
from torchvision.transforms import v2

from autocaption.data.transforms import Augmented, Square
from autocaption.errors import UserError

FITS = ("crop", "squash", "pad")


def noise(width, height):
    values = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def pixels(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize("share", [0.875, 1.0])
@pytest.mark.parametrize("size", [(24, 24), (50, 31), (31, 50), (10, 9), (400, 1)])
def test_shape_and_type(share, size):
    for transform in [*(Square(24, share, fit) for fit in FITS), crop_and_flip(24, share)]:
        picture_CHW = transform(noise(*size), seed=1)
        assert picture_CHW.shape == (3, 24, 24)
        assert picture_CHW.dtype == torch.uint8


def test_crop_takes_the_centre():
    wide, tall = noise(40, 20), noise(20, 40)  # no resizing at these sizes, so pixels stay exact
    assert torch.equal(Square(20)(wide, 0), pixels(wide.crop((10, 0, 30, 20))))
    assert torch.equal(Square(20)(tall, 0), pixels(tall.crop((0, 10, 20, 30))))
    assert torch.equal(Square(10, 0.5)(wide, 0), pixels(wide.crop((15, 5, 25, 15))))


def test_pad_keeps_the_whole_picture_on_its_colour():
    colour = (124, 116, 104)
    for size in ((40, 20), (20, 40), (40, 40), (40, 25)):
        picture = noise(*size)
        framed = Image.new("RGB", (40, 40), colour)
        framed.paste(picture, ((40 - size[0]) // 2, (40 - size[1]) // 2))
        assert torch.equal(Square(40, fit="pad", colour=colour)(picture, 0), pixels(framed))
        cut = framed.crop((10, 10, 30, 30))
        assert torch.equal(Square(20, 0.5, "pad", colour=colour)(picture, 0), pixels(cut))


PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("interpolation", PILLOW)
def test_squash_is_pillow_s_resizing_of_the_whole_picture(interpolation):
    picture = noise(300, 200)
    found_CHW = Square(100, fit="squash", interpolation=interpolation)(picture, 0).float()
    expected_CHW = pixels(picture.resize((100, 100), PILLOW[interpolation])).float()
    assert (found_CHW - expected_CHW).abs().max() <= 1
    cut = picture.resize((125, 125), PILLOW[interpolation]).crop((12, 12, 112, 112))
    found_CHW = Square(100, 0.8, "squash", interpolation)(picture, 0).float()
    assert (found_CHW - pixels(cut).float()).abs().max() <= 1


def test_evaluation_is_deterministic():
    picture = noise(50, 31)
    views = [Square(24, 0.8)(picture, seed) for seed in range(4)]
    assert all(torch.equal(view, views[0]) for view in views)


def test_training_crops_are_windows_of_the_picture_flipped_or_not():
    picture = noise(12, 10)
    windows = {}
    for x in range(5):
        for y in range(3):
            window_CHW = pixels(picture.crop((x, y, x + 8, y + 8)))
            windows[window_CHW.numpy().tobytes()] = (x, y, False)
            windows[window_CHW.flip(-1).contiguous().numpy().tobytes()] = (x, y, True)
    transform = crop_and_flip(8, 0.8)
    seen = {windows[transform(picture, seed).contiguous().numpy().tobytes()] for seed in range(300)}
    assert seen == set(windows.values())  # all 30 views, and none else


def test_training_depends_on_the_seed_only():
    picture, transform = noise(50, 31), crop_and_flip(16, 0.5)
    torch.manual_seed(1)
    first_CHW = transform(picture, 7)
    torch.manual_seed(2)
    transform(picture, 8)
    assert torch.equal(transform(picture, 7), first_CHW)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    crop_and_flip(16, 0.5)(noise(50, 31), 7)
    assert torch.equal(torch.rand(4), expected)


def test_threads_do_not_draw_from_each_other_s_seeds():
    picture = noise(64, 48)
    jitter = [v2.ColorJitter(0.5, 0.5, 0.5, 0.5), v2.RandomResizedCrop(16), v2.TrivialAugmentWide()]
    transform = Augmented(Square(16, 0.5), "jitter", jitter)
    alone = [transform(picture, seed) for seed in range(64)]
    with ThreadPoolExecutor(8) as threads:
        together = threads.map(transform, itertools.repeat(picture), range(64))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_what_transforms_leave_larger_is_cut_to_its_centre():
    picture = noise(40, 20)
    brighter = Augmented(Square(10, 0.5), "brighter", [lambda picture_CHW: picture_CHW // 2])
    assert torch.equal(brighter(picture, 0), pixels(picture.crop((15, 5, 25, 15))) // 2)


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (v2.RandomCrop(15), r"gives torch.uint8 of 3 x 15 x 15; the encoder takes uint8 of 3 x 16 x 16"),
        (v2.ToDtype(torch.float32, scale=True), r"gives torch.float32 of 3 x \d+ x \d+"),
        (v2.Grayscale(1), r"gives torch.uint8 of 1 x"),
        (v2.RandomCrop(99), r"fails on a picture of 64 x 48: Required crop size"),
    ],
)
def test_transforms_that_an_encoder_cannot_follow_are_refused_when_they_are_made(transform, reason):
    with pytest.raises(UserError, match=f"^data.augment {reason}"):
        Augmented(Square(16), "", [transform])


def test_repr_holds_all_settings():
    sizes, shares, modes = (8, 9), (0.5, 1), ("bilinear", "bicubic")
    squares = [Square(*settings) for settings in itertools.product(sizes, shares, FITS, modes)]
    variants = [*squares, Square(8, 1, "pad", colour=(1, 2, 3)), Square(8, 1, "pad", colour=(1, 2, 4))]
    variants += [Augmented(square, text, ()) for square in squares for text in ("- a", "- b")]
    assert len({repr(variant) for variant in variants}) == len(variants)
    assert repr(Square(8, 0.5)) == repr(Square(8, 0.5))


def test_large_pictures_are_shrunk_without_aliasing():
    picture = noise(400, 400)  # a shrunk pixel is the mean of 16 x 16, all but grey
    found_CHW = Square(25)(picture, 0).float()
    expected_CHW = pixels(picture.resize((25, 25), Image.Resampling.BILINEAR)).float()
    assert (found_CHW - expected_CHW).abs().max() <= 1


@pytest.mark.parametrize("length", [100, 119, 120, 121, 40_000, 40_001])
def test_of_a_strip_the_middle_alone_is_resized(length):
    wide, tall = noise(length, 3), noise(3, length)
    view = Square(24, 0.8)
    assert max(view.resized(wide).shape + view.resized(tall).shape) < 1000
    for strip in (wide, tall):
        cut = [max(0, side // 2 - 60) for side in strip.size]  # what is left is still cut
        near = strip.crop((*cut, *(side - one for side, one in zip(strip.size, cut, strict=True))))
        whole_CHW = v2.functional.resize(pixels(near), [30], antialias=True)
        expected_CHW = v2.functional.center_crop(whole_CHW, [24, 24])
        assert (view(strip, 0).float() - expected_CHW.float()).abs().max() <= 1


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("share", [1.0, 0.8])
@pytest.mark.parametrize("size", [(120, 60), (60, 120), (80, 80)])
def test_what_a_view_says_it_sees_is_what_it_shows(size, share, fit):
    view, picture = Square(40, share, fit, colour=(255, 255, 255)), Image.new("RGB", size, "black")
    left, top, right, bottom = view.seen(*size)
    edges = [round(part * side) for part, side in zip((left, top, right, bottom), size * 2, strict=True)]
    picture.paste("white", tuple(edges))
    assert view(picture, 0)[:, 1:-1, 1:-1].min() > 200
    across, down = (edges[0] + edges[2]) // 2, (edges[1] + edges[3]) // 2
    picture.paste("black", (0, 0, across, down))  # its upper left quarter
    seen_HW = view(picture, 0)[0]
    assert seen_HW[18, 18] < 50
    assert min(seen_HW[18, 21], seen_HW[21, 18], seen_HW[21, 21]) > 200
