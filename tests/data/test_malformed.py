"""Malformed text files of every layout: all records, or one clear error; and an epoch on each layout."""

import json
import logging
import re

import pytest
from helpers.commands import TINY
from helpers.configs import composed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from autocaption import build, experiment
from autocaption.data.sources import SPLITS
from autocaption.data.sources.coco import coco
from autocaption.data.sources.flickr8k import flickr8k
from autocaption.data.sources.flickr30k import flickr30k
from autocaption.data.sources.own_pictures import folder
from autocaption.errors import UserError

NAMES = [f"{i}.jpg" for i in range(6)]
SPLIT_OF = dict(zip(NAMES, ("train",) * 4 + ("val", "test"), strict=True))


def karpathy(**more):
    return json.dumps(
        {
            "images": [
                {
                    "filename": n,
                    "split": s,
                    "cocoid": i,
                    "sentences": [{"raw": f"A dog, {k}"} for k in range(2)],
                }
                | more
                for i, (n, s) in enumerate(SPLIT_OF.items())
            ]
        }
    )


def coco_file(numbers):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in numbers]
    return json.dumps(
        {"images": images, "annotations": [{"id": i, "image_id": i, "caption": "A dog"} for i in numbers]}
    )


TOKENS = "".join(f"{name}#{k}\tA dog, {k} .\n" for name in NAMES for k in range(2))
TABLE = [(name, f"A dog, {k}", SPLIT_OF[name]) for name in NAMES for k in range(2)]
LISTS = {
    f"Flickr8k_text/Flickr_8k.{file}Images.txt": "".join(f"{n}\n" for n, s in SPLIT_OF.items() if s == split)
    for file, split in (("train", "train"), ("dev", "val"), ("test", "test"))
}
# name: (data=, source, folder of pictures, {text file: content})
LAYOUTS = {
    "flickr8k original": (
        flickr8k,
        "Flicker8k_Dataset",
        {"Flickr8k_text/Flickr8k.token.txt": TOKENS, **LISTS},
    ),
    "flickr8k kaggle": (
        *(flickr8k, "Images"),
        {"captions.txt": "image,caption\n" + "".join(f'{n},"{c}"\n' for n, c, _ in TABLE)},
    ),
    "flickr8k karpathy": (flickr8k, "Images", {"dataset_flickr8k.json": karpathy()}),
    "flickr30k original": (flickr30k, "flickr30k-images", {"results_20130124.token": TOKENS}),
    "flickr30k kaggle": (
        *(flickr30k, "flickr30k_images"),
        {
            "results.csv": "image_name| comment_number| comment\n"
            + "".join(f"{n}| 0| {c}\n" for n, c, _ in TABLE)
        },
    ),
    "coco 2014": (
        *(coco, "train2014"),
        {
            "annotations/captions_train2014.json": coco_file(range(4)),
            "annotations/captions_val2014.json": coco_file((4, 5)),
        },
    ),
    "coco karpathy": (coco, "train2014", {"dataset_coco.json": karpathy(filepath="train2014")}),
    "folder csv": (
        *(folder, "."),
        {"c.csv": "image,caption,split\n" + "".join(f'{n},"{c}",{s}\n' for n, c, s in TABLE)},
    ),
    "folder tsv": (folder, ".", {"c.tsv": "image\tcaption\n" + "".join(f"{n}\t{c}\n" for n, c, _ in TABLE)}),
    "folder json": (folder, ".", {"c.json": json.dumps([{"image": n, "caption": c} for n, c, _ in TABLE])}),
    "folder jsonl": (
        *(folder, "."),
        {"c.jsonl": "\n".join(json.dumps({"image": n, "caption": c, "split": s}) for n, c, s in TABLE)},
    ),
    "folder txt": (folder, ".", {f"{i}.txt": "A dog\nA cat\n" for i in range(6)}),
}


def write(root, layout):
    """The folder of a layout, and its text files."""
    read, place, texts = LAYOUTS[layout]
    for folder_ in (place, *(["val2014"] if layout == "coco 2014" else [])):
        (root / folder_).mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            Image.effect_noise((40, 32), 90).convert("RGB").save(root / folder_ / name)
    for file, text in texts.items():
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text(text)
    return read, texts


@st.composite
def damage(draw, content):
    """A file's content with bytes flipped, cut, repeated, its fields swapped, or in another encoding."""
    kind = draw(st.sampled_from(["flip", "cut", "repeat", "swap", "encode", "lines"]))
    if kind == "encode":
        return content.decode().encode(
            draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-7", "cp037"]))
        )
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "repeat":
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        return content[:end] + content[start:end] * draw(st.integers(1, 3)) + content[end:]
    if kind == "swap":
        a, b = draw(
            st.permutations([b",", b"\t", b"|", b'"', b"#", b"\n", b":", b"[", b"0", b"image", b" "])
        )[:2]
        return content.replace(a, b)
    if kind == "lines":
        return b"\n".join(draw(st.permutations(content.split(b"\n"))))
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        damaged[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(damaged)


def captions_in(content):
    """How many captions a file still has, by their words, which no reader of a format is needed for."""
    return len(re.findall(rb"A (?:dog|cat)", content.replace(b"\0", b"")))  # UTF-16, too


@pytest.mark.parametrize("layout", LAYOUTS)
def test_malformed_files_give_all_records_or_one_clear_error(layout, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    read, texts = write(tmp_path, layout)
    whole = {file: (tmp_path / file).read_bytes() for file in texts}

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def check(data):
        caplog.clear()
        file = data.draw(st.sampled_from(sorted(whole)))
        damaged = data.draw(damage(whole[file]))
        for name, content in whole.items():
            (tmp_path / name).write_bytes(damaged if name == file else content)
        try:
            images = [image for split in SPLITS for image in read(str(tmp_path)).split(split)]
        except UserError as error:
            message = str(error)
            assert len(message.splitlines()) == 1, message
            assert len(message) < 1000 + 8 * len(str(tmp_path))
            return
        found = sum(len(re.findall(r"A (?:dog|cat)", text)) for image in images for text in image.captions)
        content = [damaged if name == file else content for name, content in whole.items()]
        expected = sum(map(captions_in, content))
        said = "skipped" in caplog.text
        assert found == expected or (found < expected and said), (found, expected, damaged)

    check()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("folder tsv", "folder json")])
def test_an_epoch_on_each_layout(layout, tmp_path):
    read, _ = write(tmp_path / "data", layout)
    words = [word for word in TINY if not word.startswith(("data.source", "trainer.max_epochs"))]
    config = composed(
        *words,
        *(f"data={read.__name__}", f"data.root={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"),
        *(
            "model.encoder.image_size=16",
            "trainer.max_epochs=1",
            "logger=none",
            "callbacks=none",
            "test=false",
        ),
        *("trainer.accelerator=cpu", "data.num_workers=0"),
    )
    experiment.train(config)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["epochs"] == 1
    assert metrics["steps"] >= 1
    data, _ = build.from_config(config)
    assert sum(len(data.source.split(split)) for split in SPLITS) == 6
