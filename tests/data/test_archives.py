"""Sources whose pictures lie within other files: tar archives, and tables of Hugging Face."""

import gzip
import io
import json
import logging
import os
import pickle
import re
import sys
import tarfile

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from autocaption import experiment
from autocaption.data.broken_pictures import broken_pictures
from autocaption.data.manifest import Manifest
from autocaption.data.sources import SPLITS
from autocaption.data.sources.huggingface import huggingface
from autocaption.data.sources.webdataset import webdataset
from autocaption.data.transforms import Square
from autocaption.errors import UserError

GLOBS = {"train": "*train*.tar", "val": "*val*.tar", "test": "*test*.tar"}


def picture(number):
    """The bytes of a PNG of its own colour."""
    stream = io.BytesIO()
    Image.new("RGB", (12, 10), (20 * number, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(file, members):
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def members(numbers):
    found = {}
    for i in numbers:
        found |= {f"{i}.png": picture(i), f"{i}.txt": f"A dog, {i}\nA cat\n".encode()}
    return found


def write_shards(root):
    root.mkdir(exist_ok=True)
    write_tar(root / "train-0.tar", members(range(3)))
    write_tar(root / "train-1.tar", members(range(3, 5)))
    write_tar(root / "val.tar", members([5]))
    write_tar(root / "test.tar", members([6]))
    return webdataset(str(root), GLOBS)


def rows(numbers, **more):
    columns = {"image": [{"bytes": picture(i), "path": f"{i}.png"} for i in numbers]}
    return columns | {"caption": [[f"A dog, {i}", "A cat"] for i in numbers]} | more


def write_table(root, columns, saved=True):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    parts = {
        split: datasets.Dataset.from_dict(part).cast_column("image", datasets.Image())
        for split, part in columns.items()
    }
    datasets.DatasetDict(parts).save_to_disk(root)
    return huggingface(str(root))


def write_tables(root):
    parts = {"train": rows(range(5)), "validation": rows([5]), "test": rows([6])}
    return write_table(root, parts)


WRITERS = {"webdataset": write_shards, "huggingface": write_tables}


@pytest.mark.parametrize("layout", WRITERS)
def test_captions_and_pictures_are_found_in_their_splits(layout, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = WRITERS[layout](tmp_path / "data")
    assert [len(source.split(split)) for split in SPLITS] == [5, 1, 1]
    source = pickle.loads(pickle.dumps(source))  # as a spawned worker gets it
    for split, numbers in (("train", range(5)), ("val", [5]), ("test", [6])):
        for image, number in zip(source.split(split), numbers, strict=True):
            assert image.captions == (f"A dog, {number}", "A cat")
            assert source.read(image).getpixel((5, 5)) == (20 * number, 0, 0)
            assert Square(8)(source.read(image), 0).dtype == torch.uint8
    assert "train 5, val 1, test 1" in caplog.text


@pytest.mark.parametrize("layout", WRITERS)
def test_checks_and_digests_are_remembered_by_the_file_that_holds_the_pictures(layout, tmp_path, monkeypatch):
    source = WRITERS[layout](tmp_path / "data")
    images = source.split("train")
    for file in (tmp_path / "data").rglob("*"):
        os.utime(file, ns=(10**18, 10**18))  # long ago, so that it is settled
    file = tmp_path / "manifest.json"
    digests = Manifest(file).digests([image.path for image in images])
    assert len(set(digests)) == len(images)
    assert broken_pictures(source, images, Manifest(file)) == []
    for image in images:
        monkeypatch.setattr(type(image.path), "read_bytes", lambda self: pytest.fail("was read again"))
    assert Manifest(file).digests([image.path for image in images]) == digests
    assert broken_pictures(source, images, Manifest(file)) == []
    for changed in (tmp_path / "data").rglob("*"):
        os.utime(changed, ns=(10**18 + 10**10, 10**18 + 10**10))
    with pytest.raises(pytest.fail.Exception):
        Manifest(file).digests([image.path for image in images])


@pytest.mark.parametrize("layout", WRITERS)
def test_a_broken_picture_is_named(layout, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "picture", lambda number: b"no picture")
    source = WRITERS[layout](tmp_path / "data")
    broken = broken_pictures(source, source.split("val"), Manifest(None))
    (error,) = [one.error for one in broken]
    assert error.startswith("broken image: ")
    assert "val.tar/5.png" in error if layout == "webdataset" else "row 0 (5.png)" in error


@pytest.mark.parametrize("layout", WRITERS)
def test_an_epoch(layout, tmp_path):
    WRITERS[layout](tmp_path / "data")
    words = [word for word in TINY if not word.startswith(("data.source", "trainer.max_epochs"))]
    config = composed(
        *words,
        *(f"data={layout}", f"data.root={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"),
        *("model.encoder.image_size=16", "trainer.max_epochs=1", "logger=none", "callbacks=none"),
        *("test=false", "trainer.accelerator=cpu", "data.num_workers=0"),
    )
    experiment.train(config)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["epochs"] == 1


def everything(source):
    return {(image.id, split): image.captions for split in SPLITS for image in source.split(split)}


def test_json_members_and_splits_that_are_drawn(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    content = {}
    for i in range(10):
        said = f"A dog, {i}" if i % 2 else [f"A dog, {i}", " "]
        content |= {f"a/{i}.seg.jpg": picture(i), f"a/{i}.json": json.dumps({"text": said}).encode()}
    content |= {"a/10.png": picture(10), "a/11.txt": b"A dog", "a/12.cls": b"3", "README": b"hello"}
    write_tar(tmp_path / "train.tar", content)
    source = webdataset(str(tmp_path), GLOBS, caption="text", val=0.2, test=1)
    assert [len(source.split(split)) for split in SPLITS] == [7, 2, 1]
    found = everything(source)
    assert {id: texts for (id, _), texts in found.items()} == {f"a/{i}": (f"A dog, {i}",) for i in range(10)}
    again = webdataset(str(tmp_path), GLOBS, caption="text", val=0.2, test=1)
    assert everything(again) == found
    other = webdataset(str(tmp_path), GLOBS, caption="text", val=0.2, test=1, seed=1)
    assert everything(other) != found
    for said in (
        "val and test drawn from train with seed 0",
        *("skipped 2 members that are neither pictures nor captions", "1 captions without a picture"),
        *("1 images without captions", "5 blank captions"),
    ):
        assert said in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:700], "cannot read .*unexpected end of data; fetch it again"),
        (lambda raw: raw[: 8 * 1024], "is cut short: its end of archive is missing"),
        (lambda raw: raw[:1024] + b"x" + raw[1025:], "is damaged after byte 1,024"),
        (lambda raw: raw + raw, "is damaged after byte .*, or several in one"),
        (gzip.compress, "cannot read .*unpack it to .tar where it is compressed"),
        (lambda raw: b"", "cannot read .*empty file"),
    ],
)
def test_a_damaged_archive_is_an_error_and_no_early_end(change, said, tmp_path):
    write_tar(tmp_path / "train.tar", members(range(4)))
    raw = (tmp_path / "train.tar").read_bytes()
    (tmp_path / "train.tar").write_bytes(change(raw))
    with pytest.raises(UserError, match=said):
        webdataset(str(tmp_path), GLOBS, val=1, test=1).split("train")


def test_what_archives_say_wrongly(tmp_path):
    with pytest.raises(UserError, match=r"^no archive .*train\*.tar; data.root names the folder"):
        webdataset(str(tmp_path), GLOBS)
    write_tar(tmp_path / "train.tar", members([0]))
    for splits, said in (
        ({"val": "valid-*.tar"}, r"^no archive .*valid-\*.tar; correct data.splits.val, or let val be drawn"),
        ({"vall": "val.tar"}, "^data.splits names train, val, test, not vall"),
    ):
        with pytest.raises(UserError, match=said):
            webdataset(str(tmp_path), {**GLOBS, **splits})
    with pytest.raises(UserError, match="matches the globs of two splits"):
        webdataset(str(tmp_path), {**GLOBS, "val": "*.tar"})
    for name, content, said in (
        ("train-1.tar", members([0]), "hold 0, but an image is in one"),
        ("train-1.tar", {"1.png": picture(1), "1.jpg": picture(1)}, "holds both 1.png and 1.jpg"),
        ("train-1.tar", {"1.png": picture(1), "1.json": b"[1"}, r"train-1.tar/1.json, line 1: not JSON"),
        (
            "train-1.tar",
            {"1.png": picture(1), "1.json": b'{"text": 1}'},
            "has no caption, but text; name yours",
        ),
        ("train-1.tar", {"1.png": picture(1), "1.json": b'{"caption": 1}'}, "caption is not text"),
        ("train-1.tar", {"1.png": picture(1), "1.txt": b"caf\xe9"}, "1.txt is not UTF-8"),
    ):
        write_tar(tmp_path / name, content)
        with pytest.raises(UserError, match=said):
            webdataset(str(tmp_path), GLOBS, val=1, test=1).split("train")


@pytest.mark.parametrize("value", ["nonsense", -1, 0, None])
@pytest.mark.parametrize("key", ["val", "test", "seed"])
def test_a_share_or_seed_that_is_none_is_refused(key, value, tmp_path):
    if (key, value) == ("seed", 0):
        return
    write_tar(tmp_path / "train.tar", members(range(4)))
    with pytest.raises(UserError, match=f"^data.source.{key}="):
        webdataset(str(tmp_path), GLOBS, **{key: value}).split("train")


def test_malformed_archives_give_all_records_or_one_clear_error(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_shards(tmp_path)
    whole = (tmp_path / "train-0.tar").read_bytes()

    @settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def check(data):
        caplog.clear()
        damaged, places = bytearray(whole), st.integers(0, len(whole) - 1)
        kind = data.draw(st.sampled_from(["flip", "cut", "remove", "repeat"]))
        if kind == "flip":
            for _ in range(data.draw(st.integers(1, 6))):
                damaged[data.draw(places)] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[data.draw(places) :]
        else:
            first, last = sorted(512 * (data.draw(places) // 512) for _ in range(2))
            damaged[first:last] = b"" if kind == "remove" else 2 * damaged[first:last]
        (tmp_path / "train-0.tar").write_bytes(damaged)
        try:
            found = everything(webdataset(str(tmp_path), GLOBS))
        except UserError as error:
            message = str(error)
            assert len(message.splitlines()) == 1, message
            return
        content = b"".join(file.read_bytes() for file in tmp_path.glob("*.tar"))
        expected = len(re.findall(rb"A (?:dog|cat)", content))
        texts = "\n".join(text for captions in found.values() for text in captions)
        read = len(re.findall(r"A (?:dog|cat)", texts))
        assert read == expected or (read < expected and "skipped" in caplog.text), (kind, damaged)

    check()


def test_rows_of_one_id_are_one_image(tmp_path):
    columns = {"image": [], "caption": [], "key": []}
    for i in range(6):
        for said in ("A dog", "A cat", " "):
            columns["image"].append({"bytes": picture(i), "path": None})
            columns["caption"].append(f"{said}, {i}".strip() if said.strip() else said)
            columns["key"].append(i)
    write_table(tmp_path / "data", {"train": columns})
    source = huggingface(str(tmp_path / "data"), columns={"id": "key"}, val=1, test=2)
    assert [len(source.split(split)) for split in SPLITS] == [3, 1, 2]
    assert {id: texts for (id, _), texts in everything(source).items()} == {
        i: (f"A dog, {i}", f"A cat, {i}") for i in range(6)
    }


def test_a_column_of_splits_counts_before_the_data_set_s_own(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    named = rows(range(4), split=["train", "dev", "test", "restval"])
    source = write_table(tmp_path / "data", {"test": named})
    assert [[image.captions[0] for image in source.split(split)] for split in SPLITS] == [
        ["A dog, 0", "A dog, 3"],
        ["A dog, 1"],
        ["A dog, 2"],
    ]
    assert "splits: column split" in caplog.text


def test_globs_may_start_elsewhere_and_a_root_be_called_like_one(tmp_path):
    (root := tmp_path / "a [1]").mkdir()
    write_tar(root / "train.tar", members(range(3)))
    write_tar(tmp_path / "other.tar", members([5]))
    source = webdataset(str(root), {**GLOBS, "val": str(tmp_path / "o*.tar"), "test": None}, test=1)
    assert [len(source.split(split)) for split in SPLITS] == [2, 1, 1]


def test_splits_by_their_own_names_and_those_that_are_none(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    parts = {"big": rows(range(3)), "small": rows([3]), "tiny": rows([4])}
    write_table(tmp_path / "data", parts)
    source = huggingface(str(tmp_path / "data"), splits={"train": "big", "val": "tiny"}, test=1)
    assert [len(source.split(split)) for split in SPLITS] == [2, 1, 1]
    assert "skipped 1 rows of small, which is no split of ours" in caplog.text
    with pytest.raises(UserError, match=r"the data set has the splits big, small, tiny; name one with"):
        huggingface(str(tmp_path / "data")).split("train")


def test_pictures_by_path(tmp_path):
    datasets = pytest.importorskip("datasets")
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(picture(i))
    columns = {"image": [f"{i}.png" for i in range(4)], "caption": [f"A dog, {i}" for i in range(4)]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path)  # without splits
    source = huggingface(str(tmp_path), val=1, test=1)
    (image,) = source.split("val")
    number = int(image.captions[0].removeprefix("A dog, "))
    assert source.read(image).getpixel((5, 5)) == (20 * number, 0, 0)
    (tmp_path / f"{number}.png").unlink()
    with pytest.raises(UserError, match=rf"image of split 'val' is missing: .*{number}.png"):
        huggingface(str(tmp_path), val=1, test=1).split("val")


def test_rows_of_one_file_without_an_id_are_in_one_split(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "0.png").write_bytes(picture(0))
    columns = {"image": ["0.png"] * 4, "caption": [f"A dog, {i}" for i in range(4)], "split": ["train"] * 4}
    columns["split"][2] = "val"
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path)
    with pytest.raises(UserError, match=r"0.png is in split 'val', and as another image in 'train'; .* id$"):
        huggingface(str(tmp_path)).split("train")


def test_a_folder_of_tables_whatever_its_name(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parquet").mkdir()  # which is also what load_dataset calls a kind of file
    table = datasets.Dataset.from_dict(rows(range(6))).cast_column("image", datasets.Image())
    table.to_parquet(tmp_path / "parquet/train.parquet")
    source = huggingface("parquet", val=1, test=2)
    assert [len(source.split(split)) for split in SPLITS] == [3, 1, 2]
    assert source.read(source.split("val")[0]).size == (12, 10)


@pytest.mark.parametrize(
    ("columns", "more", "said"),
    [
        ({"caption": "text"}, {}, "split 'train': no column text among image, caption; name yours with"),
        ({"image": "caption"}, {}, "split 'train': column caption holds no pictures"),
        ({"nonsense": "a"}, {}, "data.columns names image, caption, id, split, not nonsense"),
        ({"id": "key"}, {"key": [1.5, 2.5]}, "row 0: column key is neither a text nor a whole number"),
        ({}, {"split": ["train", "mine"]}, "row 1: unknown split 'mine'"),
        ({}, {"caption": [1, 2]}, "row 0: column caption is not text"),
    ],
)
def test_what_tables_say_wrongly(columns, more, said, tmp_path):
    write_table(tmp_path / "data", {"train": rows(range(2), **more)})
    with pytest.raises(UserError, match=said):
        huggingface(str(tmp_path / "data"), columns=columns).split("train")


def test_malformed_descriptions_of_tables_give_all_records_or_one_clear_error(tmp_path):
    write_tables(tmp_path / "data")
    names = ("dataset_dict.json", "train/state.json", "train/dataset_info.json")
    whole = {name: (tmp_path / "data" / name).read_bytes() for name in names}

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def check(data):
        for name, content in whole.items():
            (tmp_path / "data" / name).write_bytes(content)
        name = data.draw(st.sampled_from(names))
        damaged, places = bytearray(whole[name]), st.integers(0, len(whole[name]) - 1)
        kind = data.draw(st.sampled_from(["flip", "cut", "replace"]))
        if kind == "flip":
            damaged[data.draw(places)] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[data.draw(places) :]
        else:
            damaged = data.draw(st.sampled_from([b"{}", b"[]", b"3", b'{"splits": ["mine"]}']))
        (tmp_path / "data" / name).write_bytes(damaged)
        try:
            found = everything(huggingface(str(tmp_path / "data")))
        except UserError as error:
            message = str(error)
            assert len(message.splitlines()) == 1, message
            return
        assert sorted(number for number, _ in found) == sorted(
            [*(f"train_{i}" for i in range(5)), "test_0", "validation_0"]
        )

    check()


def test_without_its_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'autocaption\[huggingface\]'"):
        huggingface(str(tmp_path)).split("train")
