"""Every layout of every data set, from generated files: what is read, what is said, what is refused."""

import json
import logging
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from autocaption.data.sources import SPLITS
from autocaption.data.sources.coco import coco
from autocaption.data.sources.flickr8k import flickr8k as read_flickr8k
from autocaption.data.sources.flickr30k import flickr30k
from autocaption.data.sources.own_pictures import folder
from autocaption.errors import UserError
from autocaption.inference.picture_files import picture_files

NAMES = [f"{i}.jpg" for i in range(12)]


def pictures(root, names=NAMES):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), "red").save(root / name)


def everything(source):
    """{(id, split): captions} of all splits."""
    return {(image.id, split): image.captions for split in SPLITS for image in source.split(split)}


def ids(source):
    return {split: [image.id for image in source.split(split)] for split in SPLITS}


def error_of(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert str(word) in message
    return message


def karpathy(root, name, **more):
    """A json of Karpathy's, with an image of each split and one of restval."""
    entries = [
        {
            "filename": file,
            "split": split,
            "sentences": [{"raw": f"{split} {k} . "} for k in range(2)],
            **more,
        }
        for file, split in zip(NAMES, ("train", "restval", "val", "test"), strict=False)
    ]
    for number, entry in enumerate(entries):
        entry |= {"cocoid": 100 + number} if "filepath" in more else {}
    (root / name).write_text(json.dumps({"images": entries, "dataset": "some"}))


@pytest.mark.parametrize(("read", "place"), [(read_flickr8k, "Images"), (flickr30k, "flickr30k-images")])
def test_karpathy_s_json(tmp_path, read, place):
    pictures(tmp_path / place)
    karpathy(tmp_path, f"dataset_{read.__name__}.json")
    source = read(str(tmp_path))
    assert ids(source) == {"train": ["0", "1"], "val": ["2"], "test": ["3"]}
    assert source.split("val")[0].captions == ("val 0 . ", "val 1 . ")  # as written
    assert source.read(source.split("test")[0]).size == (12, 10)


@pytest.mark.parametrize("restval", [True, False])
def test_karpathy_s_json_of_coco_has_integer_ids_and_restval(tmp_path, restval):
    pictures(tmp_path / "val2014")
    (tmp_path / "train2014").mkdir()
    karpathy(tmp_path, "dataset_coco.json", filepath="val2014")
    source = coco(str(tmp_path), restval=restval)
    assert ids(source) == {"train": [100, 101][: 1 + restval], "val": [102], "test": [103]}


def kaggle(root, count=11, **changes):
    names = [f"{i}.jpg" for i in range(count)]
    pictures(root / "Images", names)
    rows = [f'{name},"A dog, number {k} ."' for name in names for k in range(2)]
    (root / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    return read_flickr8k(str(root), **changes)


def test_kaggle_s_flickr8k_is_divided_by_seed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = kaggle(tmp_path)
    found = ids(source)
    assert [len(names) for names in found.values()] == [9, 1, 1]
    assert sorted(name for names in found.values() for name in names) == sorted(str(i) for i in range(11))
    assert source.split("val")[0].captions == ("A dog, number 0 .", "A dog, number 1 .")
    assert "layout kaggle" in caplog.text
    assert "seed 0" in caplog.text
    # The draw depends on the seed and the names only.
    file = tmp_path / "captions.txt"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *reversed(rows)]))
    again = ids(read_flickr8k(str(tmp_path)))
    assert {split: sorted(names) for split, names in again.items()} == {
        s: sorted(n) for s, n in found.items()
    }
    draws = {tuple(ids(read_flickr8k(str(tmp_path), seed=seed))["val"]) for seed in range(9)}
    assert len(draws) > 2


def test_official_lists_win_over_a_draw(tmp_path):
    kaggle(tmp_path)
    for name, file in (("train", "3.jpg"), ("dev", "1.jpg"), ("test", "2.jpg")):
        (tmp_path / f"Flickr_8k.{name}Images.txt").write_text(f"{file}\n")
    assert ids(read_flickr8k(str(tmp_path))) == {"train": ["3"], "val": ["1"], "test": ["2"]}


FLICKR30K = {
    "results_20130124.token": "{name}#{k}\tA dog | number {k} .",
    "results.csv": "{name}| {k}| A dog | number {k} .",
}


@pytest.mark.parametrize(("file", "line"), FLICKR30K.items())
def test_flickr30k(tmp_path, file, line):
    pictures(tmp_path / "flickr30k-images")
    rows = [line.format(name=name, k=k) for name in NAMES for k in range(2)]
    if file.endswith("csv"):
        rows.insert(0, "image_name| comment_number| comment")
    (tmp_path / file).write_text("\n".join(rows))
    found = everything(flickr30k(str(tmp_path)))
    assert len(found) == 12
    assert set(found.values()) == {("A dog | number 0 .", "A dog | number 1 .")}


def test_kaggle_s_flickr30k_has_a_row_with_a_missing_separator(tmp_path):
    pictures(tmp_path / "flickr30k_images/flickr30k_images", ["1.jpg", "2.jpg", "3.jpg"])
    rows = ["image_name| comment_number| comment"]
    rows += ["1.jpg| 4   A dog runs across the grass .", "2.jpg| 0| A cat .", "3.jpg| 0| A cow ."]
    (tmp_path / "flickr30k_images/results.csv").write_text("\n".join(rows))
    found = everything(flickr30k(str(tmp_path)))
    assert ("A dog runs across the grass .",) in found.values()


def write_coco(root, year="2017", val=6):
    (root / "annotations").mkdir(exist_ok=True)
    for split, numbers in (("train", range(3)), ("val", range(10, 10 + val))):
        pictures(root / f"{split}{year}", [f"{i:012d}.jpg" for i in numbers])
        images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in numbers]
        texts = [{"id": 7 * i + k, "image_id": i, "caption": f"{i} {k}\n"} for k in (1, 0) for i in numbers]
        content = {"images": images, "annotations": texts}
        (root / f"annotations/captions_{split}{year}.json").write_text(json.dumps(content))
    return str(root)


def test_coco_s_val_is_divided_and_ids_are_integers(tmp_path):
    source = coco(write_coco(tmp_path))
    found = ids(source)
    assert found["train"] == [0, 1, 2]
    assert [len(found["val"]), len(found["test"])] == [3, 3]
    assert {*found["val"], *found["test"]} == set(range(10, 16))
    assert source.split("train")[1].captions == ("1 0\n", "1 1\n")
    other = coco(str(tmp_path), seed=1)
    assert ids(other) != found


def test_an_odd_image_of_coco_s_val_is_for_training(tmp_path):
    assert len(ids(coco(write_coco(tmp_path, val=7)))["train"]) == 4
    assert len(ids(coco(str(tmp_path), restval=False))["train"]) == 3


def coco_of(root, image='{"id": 1, "file_name": "1.jpg"}', more="", **fields):
    """COCO whose annotation file of training has one image, one caption and these fields, all as JSON."""
    write_coco(root)
    pictures(root / "train2017", ["1.jpg"])
    fields = {"id": 5, "image_id": 1, "caption": '"A dog"'} | fields
    annotation = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    text = f'{{"images": [{image}], "annotations": [{{{annotation}}}]{more}}}'
    (root / "annotations/captions_train2017.json").write_text(text)
    return coco(str(root), restval=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"caption": '"A dog", "caption": "A cat"'},
        {"caption": r'"A dog", "c\u0061ption": "A cat"'},
        {"image_id": '1, "image_id": 1'},
        {"id": '5, "id": 6'},
        {"image": '{"id": 1, "file_name": "2.jpg", "file_name": "1.jpg"}'},
        {"more": ', "annotations": []'},
        {"id": '5, "id": 6', "more": ', "licenses": [{"name": "id"}]'},
    ],
)
def test_a_key_that_occurs_twice_in_coco_s_file_is_no_silent_loss(tmp_path, fields):
    source = coco_of(tmp_path, **fields)
    error_of(lambda: source.split("train"), "captions_train2017.json", "twice")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_id": 2}, ("annotation 5", "no image")),
        ({"image_id": '"1"'}, ("annotations[0].image_id", "caption")),
        ({"caption": 3}, ("annotations[0].caption", "image_id")),
        ({"image": '{"id": 1.5, "file_name": "1.jpg"}'}, ("images[0].id", "int")),
        ({"image": '{"id": 1}'}, ("images[0]", "file_name")),
        ({"image": '{"id": 1, "file_name": " "}'}, ("image 1", "file_name")),
        ({"caption": '"A"}, {"id": "6", "image_id": 1, "caption": "B"'}, ("integer as id", "a text")),
        ({"more": "]"}, ("line 1", "not JSON")),
    ],
)
def test_a_malformed_annotation_of_coco_is_named(tmp_path, fields, words):
    source = coco_of(tmp_path, **fields)
    error_of(lambda: source.split("train"), "captions_train2017.json", *words)


def test_unusual_annotations_of_coco_are_read(tmp_path):
    def captions(**fields):
        (image,) = coco_of(tmp_path, **fields).split("train")
        return image.captions

    assert captions(caption='"caption"') == ("caption",)
    assert captions(caption=r'"\ud800"') == ("\ud800",)
    assert captions(caption=r'"\u0041 \u00e9"') == ("A é",)
    assert captions(id='"b"', more=', "licenses": [{"id": 7}], "info": {"year": NaN}') == ("A dog",)
    assert captions(id='"b"', caption='"A"}, {"id": "a", "image_id": 1, "caption": "B"') == ("B", "A")


TABLES = {
    "c.csv": lambda rows: "image,caption,split\n" + "".join(f'{i},"{c}",{s}\n' for i, c, s in rows),
    "c.tsv": lambda rows: "split\timage\tcaption\n" + "".join(f"{s}\t{i}\t{c}\n" for i, c, s in rows),
    "c.json": lambda rows: json.dumps([{"image": i, "caption": c, "split": s} for i, c, s in rows]),
    "c.jsonl": lambda rows: "\n".join(
        json.dumps({"image": i, "caption": [c], "split": s}) for i, c, s in rows
    ),
}
ROWS = [
    ("a/1.jpg", "A dog, big .", "train"),
    ("a/1.jpg", " Same dog  ", "train"),
    ("b/1.jpg", "Another", "dev"),
    ("b/Bär #1.jpg", "Ein Bär", "test"),
]
EXPECTED = {
    ("a/1.jpg", "train"): ("A dog, big .", " Same dog  "),
    ("b/1.jpg", "val"): ("Another",),
    ("b/Bär #1.jpg", "test"): ("Ein Bär",),
}


@pytest.mark.parametrize("file", TABLES)
def test_a_table_in_a_folder(tmp_path, file):
    pictures(tmp_path, [row[0] for row in ROWS])
    (tmp_path / file).write_text(TABLES[file](ROWS))
    assert everything(folder(str(tmp_path))) == EXPECTED


HABITS = {
    "bom": lambda text: text.encode("utf-8-sig"),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "mac": lambda text: text.replace("\n", "\r").encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "blank": lambda text: ("\n\n" + text.replace("\n", "\n \n\n") + "\n").encode(),
    "nfd": lambda text: unicodedata.normalize("NFD", text).encode(),
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("file", ["c.csv", "c.jsonl"])
def test_text_files_of_any_habit(tmp_path, file, habit, form):
    pictures(tmp_path, [unicodedata.normalize(form, row[0]) for row in ROWS])
    rows = [(f"{name} ", text, split) for name, text, split in ROWS]  # trailing spaces
    (tmp_path / file).write_bytes(HABITS[habit](TABLES[file](rows)))
    found = everything(folder(str(tmp_path)))
    normal = {
        key: tuple(unicodedata.normalize("NFC", text) for text in texts) for key, texts in found.items()
    }
    assert normal == EXPECTED
    for split in SPLITS:
        assert all(image.path.is_file() for image in folder(str(tmp_path)).split(split))


def test_a_mark_in_a_list_or_token_file_loses_nothing(flickr8k):
    expected = everything(read_flickr8k(str(flickr8k)))
    for file in (flickr8k / "Flickr8k_text").iterdir():
        file.write_bytes(file.read_text().encode("utf-8-sig"))
    assert everything(read_flickr8k(str(flickr8k))) == expected


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_another_encoding_is_named(tmp_path, encoding):
    pictures(tmp_path, [row[0] for row in ROWS])
    (tmp_path / "c.csv").write_bytes(TABLES["c.csv"](ROWS).encode(encoding))
    error_of(lambda: folder(str(tmp_path)).split("train"), "c.csv", "iconv", "UTF-")


@pytest.mark.parametrize("folders", [True, False])
def test_text_files_beside_pictures(tmp_path, folders, caplog):
    caplog.set_level(logging.INFO)
    places = ("train", "validation", "test") if folders else ("x", "y", "z")
    for place in places:
        pictures(tmp_path / place, NAMES[:2])
        (tmp_path / place / "0.txt").write_text(f"One in {place}\n\nTwo\n")
    (tmp_path / "x.txt").write_text("about")
    source = folder(str(tmp_path))
    found = everything(source)
    assert set(found.values()) == {(f"One in {place}", "Two") for place in places}
    if folders:
        assert ids(source) == {"train": ["train/0.jpg"], "val": ["validation/0.jpg"], "test": ["test/0.jpg"]}
    assert "skipped 3 pictures without a .txt file" in caplog.text
    assert "skipped 1 .txt files without a picture" in caplog.text


@pytest.mark.parametrize("text", ["One\n", None])
def test_folders_may_be_links_even_to_those_above(tmp_path, text):
    root = tmp_path / "root"
    for split in SPLITS:
        pictures(tmp_path / f"disk/{split}", NAMES[:1])
        if text:
            (tmp_path / f"disk/{split}/0.txt").write_text(text)
        root.mkdir(exist_ok=True)
        (root / split).symlink_to(tmp_path / "disk" / split)
    (tmp_path / "disk/train/loop").symlink_to(root)
    if text:
        assert ids(folder(str(root))) == {split: [f"{split}/0.jpg"] for split in SPLITS}
    assert picture_files([str(root)]) == [root / split / "0.jpg" for split in sorted(SPLITS)]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, caplog):
    def guarded(place, scandir=os.scandir):
        if Path(place).name == "lost+found":
            raise PermissionError
        return scandir(place)

    pictures(tmp_path, ["a.jpg", "lost+found/b.jpg"])
    monkeypatch.setattr("os.scandir", guarded)
    assert picture_files([str(tmp_path)]) == [tmp_path / "a.jpg"]
    assert f"skipped the folder {tmp_path / 'lost+found'}" in caplog.text


def table(root, text, names=NAMES, file="c.csv", **changes):
    pictures(root, names)
    (root / file).write_text(text)
    return folder(str(root), **changes)


def test_a_table_without_splits_is_divided(tmp_path):
    text = "image,caption\n" + "".join(f"{name},A dog\n" for name in NAMES)
    sizes = [len(names) for names in ids(table(tmp_path, text)).values()]
    assert sizes == [10, 1, 1]
    sizes = [len(names) for names in ids(folder(str(tmp_path), val=0.25, test=5)).values()]
    assert sizes == [4, 3, 5]
    error_of(lambda: folder(str(tmp_path), val=6, test=6).split("val"), "12 images", "train 0")
    error_of(lambda: folder(str(tmp_path), val=1.5).split("val"), "data.source.val=1.5", "whole number")
    (tmp_path / "c.csv").write_text("image,caption\n" + "".join(f"{name},\n" for name in NAMES[:4]))
    error_of(lambda: folder(str(tmp_path)).split("val"), "0 images", "train 0", "skipped 4 blank captions")


def test_what_is_skipped_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    rows = ["0.jpg,,train", "0.jpg,  ,train", "1.jpg,A dog,train", '1.jpg,"Two\nlines",train', "2.jpg,,val"]
    source = table(tmp_path, "image,caption,split\n" + "\n".join([*rows, "3.jpg,B,val", "4.jpg,C,test"]))
    assert everything(source) == {
        ("1.jpg", "train"): ("A dog", "Two\nlines"),
        ("3.jpg", "val"): ("B",),
        ("4.jpg", "test"): ("C",),
    }
    said = ("3 blank captions", "2 images without captions", "9 pictures without captions")
    assert all(f"skipped {words}" in caplog.text for words in said)
    assert "1 captions over several lines" in caplog.text


def test_columns_have_the_names_that_are_given(tmp_path):
    text = "file_name,text\n" + "".join(f"{name},A dog\n" for name in NAMES)
    error_of(
        lambda: table(tmp_path, text).split("train"), "no column image and no caption", "data.columns.image"
    )
    columns = {"image": "file_name", "caption": "text"}
    assert len(everything(folder(str(tmp_path), columns=columns))) == 12


MALFORMED = {
    "fields": ("0.jpg,A dog, big,train", "line 2", "4 fields"),
    "quotes": ('0.jpg,"A dog,train', "line", "quotes"),
    "split": ("0.jpg,A dog,trian", "line 2", "trian"),
    "name": (",A dog,train", "line 2", "picture"),
    "two splits": ("0.jpg,A dog,train\n0.jpg,A dog,test", "line 3", "0.jpg"),
    "some without": ("0.jpg,A dog,train\n1.jpg,A dog,", "split", "1.jpg"),
    "nothing": ("", "no rows", "caption"),
    "missing": ("99.jpg,A dog,train\n98.jpg,A dog,train", "99.jpg", "1 more"),
    "swapped": ("A dog,0.jpg,train", "missing", "A dog"),
}


@pytest.mark.parametrize(("rows", "one", "other"), MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_table_is_one_line(tmp_path, rows, one, other):
    source = table(tmp_path, f"image,caption,split\n{rows}")
    error_of(lambda: source.split("train"), one, other)


def test_a_key_that_occurs_twice_in_a_record_is_no_silent_loss(tmp_path):
    source = table(tmp_path, '[{"image": "0.jpg", "caption": "A dog", "caption": "A cat"}]', file="c.json")
    error_of(lambda: source.split("train"), "c.json", "twice", "caption")


def test_a_picture_of_two_names_is_in_one_split(tmp_path):
    text = "image,caption,split\na.jpg,A,{}\n./a.jpg,B,{}\nb.jpg,C,val\nc.jpg,D,test\n"
    source = table(tmp_path, text.format("train", "val"), ["a.jpg", "b.jpg", "c.jpg"])
    error_of(lambda: source.split("train"), tmp_path / "a.jpg", "split 'val'", "in 'train'", "one name or id")
    (tmp_path / "c.csv").write_text(text.format("train", "train"))
    assert [image.captions for image in folder(str(tmp_path)).split("train")] == [("A",), ("B",)]


def test_missing_pictures_are_skipped_if_asked(tmp_path, caplog):
    text = "image,caption,split\n0.jpg,A,train\n99.jpg,B,train\n"
    source = table(tmp_path, text, on_broken="skip")
    assert [image.id for image in source.split("train")] == ["0.jpg"]
    assert "skipped 1 images of split 'train'" in caplog.text


def test_nothing_recognised_lists_what_was_looked_for(tmp_path):
    error_of(
        lambda: read_flickr8k(str(tmp_path)), "Flickr8k.token.txt", "captions.txt", "dataset_flickr8k.json"
    )
    error_of(lambda: coco(str(tmp_path)), "captions_train2014.json", "dataset_coco.json", "data.root")
    error_of(lambda: flickr30k(str(tmp_path)), "results_20130124.token", "results.csv")
    error_of(lambda: folder(str(tmp_path)), "*.csv", "*.tsv", "*.json", ".txt beside")
    error_of(lambda: folder(str(tmp_path / "no")), "not found", "data.root")
    error_of(lambda: folder(""), "data.root=: give a path")
    error_of(lambda: folder("~nobody_of_this_name"), "data.root=~nobody_of_this_name")


def test_several_layouts_are_an_error_until_one_is_chosen(tmp_path, flickr8k):
    (flickr8k / "captions.txt").write_text("image,caption\nv0.jpg,A dog\nv1.jpg,B\nt1.jpg,C")
    error_of(lambda: read_flickr8k(str(flickr8k)), "original", "kaggle", "data.layout=")
    assert len(read_flickr8k(str(flickr8k), layout="original").split("train")) == 3
    error_of(lambda: read_flickr8k(str(flickr8k), layout="orginal"), "original, kaggle, karpathy")
    write_coco(tmp_path)
    write_coco(tmp_path, "2014")
    error_of(lambda: coco(str(tmp_path)), "2014", "2017", "data.layout=")
    assert coco(str(tmp_path), layout=2014).split("train")[0].path.parent.name == "train2014"
    table(tmp_path, "image,caption\n")
    (tmp_path / "d.csv").write_text("")
    error_of(lambda: folder(str(tmp_path)), "c.csv, d.csv", "data.file=")
