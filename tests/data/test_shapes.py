"""Generated scenes: pictures and captions agree, splits are disjoint and fixed."""

import random
import re
from itertools import pairwise

import numpy as np
import pytest

from autocaption.data.sources.shapes import BACKGROUNDS, COLOURS, KINDS, SCENES, SIZES, Scene, Shapes
from autocaption.errors import UserError

SPLITS = ("train", "val", "test")
THING = (
    rf"(?:an?|the) (?:(?P<size%d>{'|'.join(SIZES)}) )?(?:(?P<colour%d>{'|'.join(COLOURS)}) )?"
    rf"(?P<kind%d>{'|'.join(KINDS)})"
)
ONE, TWO = THING % (1, 1, 1), THING % (2, 2, 2)
RELATED = re.compile(
    rf"(?:there is )?{ONE}(?: is| can be seen)? (?P<relation>above|below|left of|right of) {TWO}\."
)
TOGETHER = re.compile(rf"{ONE} and {TWO} on an? (?P<background>{'|'.join(BACKGROUNDS)}) background\.")
HOLDS = {
    "above": lambda a, b: a.cell // 3 < b.cell // 3,
    "below": lambda a, b: a.cell // 3 > b.cell // 3,
    "left of": lambda a, b: a.cell % 3 < b.cell % 3,
    "right of": lambda a, b: a.cell % 3 > b.cell % 3,
    None: lambda a, b: True,
}


def shapes(seed=0, size=48, train=80, val=20, test=30):
    return Shapes(seed, size, train, val, test)


def scene_of(image):
    return Scene.numbered(int(image.id.removeprefix("shapes-")))


def is_true(caption, scene):
    """Whether some reading of the caption's words fits the scene."""
    found = RELATED.fullmatch(caption.lower()) or TOGETHER.fullmatch(caption.lower())
    assert found, f"cannot parse {caption!r}"
    said = found.groupdict()

    def fits(thing, number):
        told = {name: said[f"{name}{number}"] for name in ("size", "colour", "kind")}
        return all(value in (None, getattr(thing, name)) for name, value in told.items())

    readings = [(scene.first, scene.second), (scene.second, scene.first)]
    holds = HOLDS[said.get("relation")]
    return said.get("background") in (None, scene.background) and any(
        fits(a, 1) and fits(b, 2) and holds(a, b) for a, b in readings
    )


def all_images(source):
    return [image for split in SPLITS for image in source.split(split)]


def test_splits_do_not_overlap():
    source = shapes()
    assert [len(source.split(split)) for split in SPLITS] == [80, 20, 30]
    images = all_images(source)
    assert len({image.id for image in images}) == 130
    assert [image.split for image in images] == ["train"] * 80 + ["val"] * 20 + ["test"] * 30
    assert {image.path for image in images} == {None}


def test_scene_numbers_are_unique():
    numbers = random.Random(0).sample(range(SCENES), 5000)
    assert len({Scene.numbered(number) for number in numbers}) == 5000


def test_two_instances_are_the_same():
    one, other = shapes(), shapes()
    list(other.split("test"))  # what was asked for before makes no difference
    for mine, theirs in zip(all_images(one), all_images(other), strict=True):
        assert mine == theirs
    image = one.split("val")[3]
    assert one.read(image).tobytes() == other.read(image).tobytes()


def test_seeds_give_different_data_sets():
    ids = {image.id for image in all_images(shapes())}
    others = {image.id for image in all_images(shapes(seed=1))}
    assert len(ids & others) < 10


def test_val_and_test_do_not_change_with_the_size_of_train():
    small, big = shapes(train=5), shapes(train=500)
    for split in ("val", "test"):
        assert list(small.split(split)) == list(big.split(split))
    assert list(small.split("train")) == list(big.split("train"))[:5]


def test_every_caption_is_true():
    said = []
    for image in all_images(shapes()):
        assert len(set(image.captions)) == 5
        false = [caption for caption in image.captions if not is_true(caption, scene_of(image))]
        assert false == []
        said += image.captions
    everything = " ".join(said)
    assert {word for word in [*COLOURS, *SIZES, *KINDS, *BACKGROUNDS] if word not in everything} == set()
    assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", everything)


def test_caption_oracle_detects_false_captions():
    images = list(shapes().split("train"))
    swapped = [
        is_true(caption, scene_of(other)) for image, other in pairwise(images) for caption in image.captions
    ]
    assert sum(swapped) < len(swapped) / 10


def test_the_picture_shows_each_colour_in_its_cell():
    source = shapes(size=60)
    for image in all_images(source):
        scene, picture = scene_of(image), source.read(image)
        assert (picture.mode, picture.size) == ("RGB", (60, 60))
        expected = [BACKGROUNDS[scene.background]] * 9
        for thing in (scene.first, scene.second):
            expected[thing.cell] = COLOURS[thing.colour]
        centres = [(20 * (cell % 3) + 10, 20 * (cell // 3) + 10) for cell in range(9)]
        assert [picture.getpixel(centre) for centre in centres] == expected


def test_the_picture_shows_each_kind_and_size():
    source = shapes(size=120)
    full = {"square": (0.95, 1.0), "circle": (0.72, 0.88), "triangle": (0.45, 0.62)}  # share of its box
    seen = set()
    for image in all_images(source):
        scene = scene_of(image)
        pixels = np.array(source.read(image))
        for thing, other in ((scene.first, scene.second), (scene.second, scene.first)):
            rows, columns = abs(thing.cell // 3 - other.cell // 3), abs(thing.cell % 3 - other.cell % 3)
            if thing.colour == other.colour or max(rows, columns) < 2:
                continue  # things side by side may touch
            ys, xs = np.nonzero((pixels == COLOURS[thing.colour]).all(-1))
            height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
            low, high = full[thing.kind]
            assert low <= len(ys) / (height * width) <= high
            assert ("large" if max(height, width) > 32 else "small") == thing.size
            seen.add((thing.kind, thing.size))
    assert len(seen) == len(KINDS) * len(SIZES)


def test_a_split_is_a_sequence():
    split = shapes().split("val")
    images = list(split)
    assert list(split[3:11:2]) == images[3:11:2]
    assert list(split[5:][:3]) == images[5:8]
    assert len(split[18:99]) == 2
    assert split[-1] == images[-1]
    assert images[4] in split
    with pytest.raises(IndexError):
        split[20]
    with pytest.raises(IndexError):
        split[:3][3]


@pytest.mark.parametrize("counts", [{"train": 0}, {"val": 0}, {"test": -1}, {"train": SCENES - 49}])
def test_impossible_split_sizes_are_refused(counts):
    with pytest.raises(UserError, match=rf"^data\.source.*{SCENES}"):
        shapes(**counts)


def test_every_scene_can_be_used():
    assert len(shapes(train=SCENES - 50).split("train")) == SCENES - 50


def test_unknown_split():
    with pytest.raises(UserError, match="no split 'dev' in shapes; take one of: train, val, test"):
        shapes().split("dev")
