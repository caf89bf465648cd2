"""Flickr8k's files: captions, splits, and every way in which they can be wrong."""

import numpy as np
import pytest
from PIL import Image

from autocaption.data.sources.flickr8k import flickr8k as source_of
from autocaption.errors import UserError


def tokens(root):
    return root / "Flickr8k_text" / "Flickr8k.token.txt"


def error_of(call, *words):
    """The one line of the UserError that a call raises."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


def test_splits_keep_the_order_of_their_files(flickr8k):
    source = source_of(str(flickr8k))
    found = {split: [image.id for image in source.split(split)] for split in ("train", "val", "test")}
    assert found == {"train": ["t1", "t0", "t2"], "val": ["v0", "v1"], "test": ["e0"]}
    image = source.split("val")[1]
    assert image.split == "val"
    assert image.path == flickr8k / "Flicker8k_Dataset" / "v1.jpg"


def test_captions_are_as_written_and_in_order(flickr8k):
    captions = source_of(str(flickr8k)).split("val")[1].captions
    assert captions == tuple(f"Caption {k} of the val image v1 , whole ." for k in range(5))


def test_captions_are_in_order_of_their_numbers(flickr8k):
    lines = tokens(flickr8k).read_text().splitlines()
    tokens(flickr8k).write_text("\n".join(reversed(lines)))
    captions = source_of(str(flickr8k)).split("test")[0].captions
    assert [caption.split()[1] for caption in captions] == list("01234")


def test_a_line_ends_at_a_newline_only(flickr8k):
    with tokens(flickr8k).open("a", encoding="utf-8") as file:
        file.write("e0.jpg#5\tOne\u2028caption .\n")
    assert source_of(str(flickr8k)).split("test")[0].captions[5] == "One\u2028caption ."


def test_blank_lines_and_windows_line_ends_are_no_error(flickr8k):
    for file in (flickr8k / "Flickr8k_text").iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    image = source_of(str(flickr8k)).split("test")[0]
    assert (image.id, image.captions[0]) == ("e0", "Caption 0 of the test image e0 , whole .")


def test_home_is_expanded(flickr8k, monkeypatch):
    monkeypatch.setenv("HOME", str(flickr8k.parent))
    assert source_of("~/flickr8k").split("test")[0].path.is_file()


@pytest.mark.parametrize("folder", [".", "Flicker8k_Dataset", "Flickr8k_text"])
def test_a_missing_folder(flickr8k, folder):
    missing = flickr8k / folder
    named = flickr8k if folder == "Flickr8k_text" else missing
    missing.rename(flickr8k.parent / "elsewhere")
    error_of(lambda: source_of(str(flickr8k)), named, "data.root", "Flickr8k.token.txt")


@pytest.mark.parametrize("name", ["Flickr_8k.devImages.txt", "Flickr8k.token.txt"])
def test_a_missing_or_empty_file(flickr8k, name):
    file = flickr8k / "Flickr8k_text" / name
    file.write_text(" \n\n")
    error_of(lambda: source_of(str(flickr8k)).split("val"), file, "restore")
    file.unlink()
    error_of(lambda: source_of(str(flickr8k)).split("val"), name, flickr8k)


def test_a_file_in_another_encoding(flickr8k):
    tokens(flickr8k).write_bytes("e0.jpg#0\tUn café .\n".encode("latin-1"))
    error_of(lambda: source_of(str(flickr8k)).split("test"), tokens(flickr8k))


@pytest.mark.parametrize("line", ["e0.jpg#0 A dog .", "e0.jpg\tA dog .", "e0.jpg#0\t ", "x" * 5000])
def test_a_malformed_line_is_named_by_its_number(flickr8k, line):
    lines = tokens(flickr8k).read_text().splitlines()
    lines.insert(6, line)
    lines.insert(2, "")
    tokens(flickr8k).write_text("\n".join(lines))
    message = error_of(
        lambda: source_of(str(flickr8k)).split("val"), tokens(flickr8k), "line 8:", repr(line[:40])[:-1]
    )
    assert len(message) < 500


def test_a_missing_image(flickr8k):
    missing = flickr8k / "Flicker8k_Dataset" / "t0.jpg"
    missing.unlink()
    source = source_of(str(flickr8k))
    error_of(lambda: source.split("train"), missing, "'train'")
    assert len(source.split("val")) == 2


def test_an_image_without_captions(flickr8k):
    lines = [line for line in tokens(flickr8k).read_text().splitlines() if not line.startswith("t2")]
    tokens(flickr8k).write_text("\n".join(lines))
    error_of(lambda: source_of(str(flickr8k)).split("train"), "t2.jpg", "'train'")


def test_an_unknown_split(flickr8k):
    error_of(lambda: source_of(str(flickr8k)).split("dev"), "'dev'", "train, val, test")


def replace_image(root, content):
    """The source and its only test image, whose file has another content now."""
    (root / "Flicker8k_Dataset" / "e0.jpg").write_bytes(content)
    source = source_of(str(root))
    return source, source.split("test")[0]


def encoded(picture, kind, folder):
    picture.save(folder / "encoded", kind)
    return (folder / "encoded").read_bytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.9])
def test_a_truncated_image(flickr8k, tmp_path, kind, share):
    picture = Image.merge("RGB", [Image.effect_noise((60, 40), 90)] * 3)
    content = encoded(picture, kind, tmp_path)
    source, image = replace_image(flickr8k, content[: int(len(content) * share)])
    error_of(lambda: source.read(image), image.path)


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", bytes(3000)])
def test_no_image_at_all(flickr8k, content):
    source, image = replace_image(flickr8k, content)
    error_of(lambda: source.read(image), image.path)


def test_image_deleted_after_listing(flickr8k):
    source, image = replace_image(flickr8k, b"")
    image.path.unlink()
    error_of(lambda: source.read(image), f"not found: {image.path}")


@pytest.mark.parametrize(
    ("mode", "kind", "colour", "expected"),
    [
        ("RGB", "JPEG", (200, 10, 40), (200, 10, 40)),
        ("L", "JPEG", 99, (99, 99, 99)),
        ("CMYK", "JPEG", (0, 255, 255, 0), (255, 0, 0)),
        ("1", "PNG", 1, (255, 255, 255)),
        ("RGBA", "PNG", (9, 8, 7, 255), (9, 8, 7)),
        ("P", "PNG", 3, (10, 200, 30)),
    ],
)
def test_every_image_mode_is_read_as_rgb(flickr8k, tmp_path, mode, kind, colour, expected):
    picture = Image.new(mode, (16, 12), colour)
    if mode == "P":
        picture.putpalette([0, 0, 0] * 3 + [10, 200, 30])
    source, image = replace_image(flickr8k, encoded(picture, kind, tmp_path))
    read = source.read(image)
    assert (read.mode, read.size) == ("RGB", (16, 12))
    assert np.abs(np.array(read).astype(int) - expected).max() <= 4  # JPEG is lossy


@pytest.mark.realdata
def test_the_real_one(shared):
    source = source_of(str(shared / "flickr8k"))
    images = {split: source.split(split) for split in ("train", "val", "test")}
    assert [len(found) for found in images.values()] == [6000, 1000, 1000]
    everything = [image for found in images.values() for image in found]
    assert {len(image.captions) for image in everything} == {5}
    assert len({image.id for image in everything}) == 8000
    assert source.read(everything[0]).mode == "RGB"
