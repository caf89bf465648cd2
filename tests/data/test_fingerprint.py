"""The digest of a split's captions."""

from dataclasses import replace
from pathlib import Path

from autocaption.data.fingerprint import fingerprint
from autocaption.data.sources import CaptionedImage

IMAGES = [
    CaptionedImage("a", Path("/here/a.jpg"), "train", ("A dog .", "A cat .")),
    CaptionedImage("b", Path("/here/b.jpg"), "train", ("Ein Hündchen .",)),
]


def test_the_place_of_the_data_does_not_count():
    assert fingerprint(IMAGES) == fingerprint([replace(one, path=None, split="test") for one in IMAGES])


def test_every_change_of_ids_and_captions_counts():
    a, b = IMAGES
    others = [
        [],
        [a],
        [b, a],
        [replace(a, id="c"), b],
        [replace(a, captions=("A dog .", "A cat.")), b],
        [replace(a, captions=("A dog .A cat .",)), b],
        [replace(a, captions=("A dog .",)), replace(b, captions=("A cat .", *b.captions))],
        [replace(a, captions=(*a.captions, "b", *b.captions))],  # the same texts, another structure
    ]
    others.append([replace(a, id="caf\udce9"), b])  # a file's name that is no UTF-8
    assert len({fingerprint(images) for images in [IMAGES, *others]}) == 1 + len(others)
