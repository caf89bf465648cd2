"""Captions of other systems, in COCO's result format."""

import json
from pathlib import Path

import pytest

from autocaption.data.sources import CaptionedImage
from autocaption.errors import UserError
from autocaption.evaluation.result_file import read_captions

IMAGES = [
    CaptionedImage(12, Path("/d/COCO_val2014_000000000012.jpg"), "test", ("a",)),
    CaptionedImage("b", Path("/d/other name.png"), "test", ("b",)),
    CaptionedImage("c", None, "test", ("c",)),
]


@pytest.fixture(name="read")
def reader(tmp_path):
    def read(entries, images=IMAGES):
        file = tmp_path / "theirs.json"
        file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
        return read_captions(file, images, "test")

    return read


def entries(*ids):
    return [{"image_id": id, "caption": f"says {id}"} for id in ids]


@pytest.mark.parametrize("first", [12, "12", "COCO_val2014_000000000012.jpg", "COCO_val2014_000000000012"])
@pytest.mark.parametrize("second", ["b", "other name", "other name.png"])
def test_an_image_is_named_by_its_id_or_its_file(read, first, second):
    found = read(entries(second, "c", first))
    assert found == {"b": f"says {second}", "c": "says c", 12: f"says {first}"}


def test_an_id_goes_before_another_image_s_file_and_a_name_of_two_files_names_none(read):
    images = [
        CaptionedImage("b", Path("/d/c.jpg"), "test", ("b",)),
        CaptionedImage("c", Path("/d/x.jpg"), "test", ("c",)),
        CaptionedImage("d", Path("/d/x.png"), "test", ("d",)),
    ]
    assert read(entries("c", "b", "x.png"), images) == {"c": "says c", "b": "says b", "d": "says x.png"}
    with pytest.raises(
        UserError, match="entry 2: several images have a file x; name each by its id, such as"
    ):
        read(entries("c", "b", "x"), images)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (entries(12), "2 of the 3 images of split 'test' have no caption, first b"),
        (
            entries(12, "b", "c", "z", 7),
            "2 of 5 captions are of no image of split 'test', first z; its images have ids such as 12",
        ),
        (entries(12, "b", "c", "12"), "entry 3 is a second caption of image 12"),
        (entries(12, True, "c"), "entry 1 has no image_id"),
        (entries(12.0, "b", "c"), "entry 0 has no image_id"),
        ([{"image_id": 12, "caption": None}], "entry 0 has no image_id"),
        ([12], "entry 0 has no image_id"),
        ({"annotations": []}, "not COCO's result format"),
        ("[{", "not JSON"),
    ],
)
def test_what_is_wrong_is_named(read, content, said):
    with pytest.raises(UserError) as raised:
        read(content)
    assert said in str(raised.value)
    assert "theirs.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_empty_caption_is_a_caption(read):
    assert read([*entries(12, "b"), {"image_id": "c", "caption": ""}])["c"] == ""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.json"):
        read_captions(tmp_path / "nowhere.json", IMAGES, "test")
