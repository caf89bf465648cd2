"""COCO's size: seconds to load its captions and to start with cached features, and its workers' memory."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.manifest import Manifest
from autocaption.data.sources import SPLITS
from autocaption.data.sources.coco import coco
from autocaption.data.token_table import TokenTable
from autocaption.data.tokenizer import WordTokenizer, words
from autocaption.data.transforms import Square
from autocaption.features.cache import FeatureCache
from benchmarks.generated import LENGTHS, Colours
from benchmarks.growth import alone
from benchmarks.memory import peak_megabytes, private_megabytes

WORDS = 30_000  # distinct, as frequent as Zipf's law has them
SIDE = 32  # pixels


def write(folder: str, images: int, captions: int) -> None:
    """Write COCO's files of 2014, a third of the images in val, with the same small picture for all."""
    random, root = np.random.default_rng(0), Path(folder)
    (root / "annotations").mkdir()
    Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(root / "picture.jpg")
    lengths = 1 + random.choice(len(LENGTHS), captions, p=np.array(LENGTHS) / sum(LENGTHS))
    ranks = np.minimum(random.zipf(1.2, lengths.sum()), WORDS)
    drawn = iter([f"w{rank}" for rank in ranks])
    first = 0
    for split, count in (("train", images - images // 3), ("val", images // 3)):
        (root / f"{split}2014").mkdir()
        names = [f"COCO_{split}2014_{first + i:012d}.jpg" for i in range(count)]
        for i, name in enumerate(names):
            if i % 10_000 == 0:  # a file has a limited number of names
                source = root / split / f"{i}.jpg"
                source.parent.mkdir(exist_ok=True)
                source.write_bytes((root / "picture.jpg").read_bytes())
            os.link(source, root / f"{split}2014" / name)
        share = captions * count // images
        annotations = [
            {
                "image_id": first + i % count,
                "id": first * 5 + i,
                "caption": f"A {' '.join(next(drawn) for _ in range(length))}.",
            }
            for i, length in enumerate(lengths[:share].tolist())
        ]
        lengths = lengths[share:]
        entries = [
            {
                "license": 1,
                "file_name": name,
                "coco_url": f"http://example.org/{name}",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 16:28:13",
                "id": first + i,
            }
            for i, name in enumerate(names)
        ]
        text = json.dumps({"images": entries, "annotations": annotations})
        (root / f"annotations/captions_{split}2014.json").write_text(text)
        first += count


def load(folder: str) -> dict[str, float]:
    """CPU seconds of each step to the first batch, and the peak memory.

    It has one thread and its files are in memory, so on an idle machine these are the seconds that it takes.
    """
    seconds = {}
    start = time.process_time()
    source = coco(folder)
    images = source.split("train")
    seconds["source"] = time.process_time() - start
    start = time.process_time()
    tokenizer = WordTokenizer(words, 5, 20).fit(text for image in images for text in image.captions)
    seconds["vocabulary"] = time.process_time() - start
    start = time.process_time()
    TokenTable((image.captions for image in images), tokenizer)
    seconds["token table"] = time.process_time() - start
    found = {f"CPU seconds of {name}": value for name, value in seconds.items()}
    return {**found, "CPU seconds to load": sum(seconds.values()), "MB to load": peak_megabytes()}


def start(folder: str) -> float:
    """CPU seconds from nothing to the features of all splits, which are computed unless they are cached."""
    begin = time.process_time()
    source = coco(folder)
    images = [source.split(name) for name in SPLITS]
    cpu, manifest = torch.device("cpu"), Manifest(Path(folder, "manifest.json"))
    cache = FeatureCache(f"{folder}/features", Colours().requires_grad_(False), 512, [cpu], manifest)
    for some in images:
        cache.get(source, some, Square(8), 1)
    return time.process_time() - begin


def growth(folder: str, workers: int, batch: int) -> dict[str, float]:
    """What the memory of an epoch's workers grows by, on average, from their first batch to their last."""
    source = coco(folder)
    tokenizer = WordTokenizer(words, 5, 20).fit(
        text for one in source.split("train") for text in one.captions
    )
    transform = Square(8)
    data = CaptionDataModule(source, tokenizer, transform, transform, batch, workers, seed=0)
    batches: Any = iter(data.train_dataloader())
    first, last = [], []
    for number in range(len(batches)):
        next(batches)
        if number == workers - 1:  # each has given one
            first = [private_megabytes(worker.pid) for worker in batches._workers]
    last = [private_megabytes(worker.pid) for worker in batches._workers]
    return {
        "MB private to a worker at its first batch": float(np.mean(first)),
        "MB private to a worker after an epoch": float(np.mean(last)),
    }


def measure(
    *, images: int = 123_000, captions: int = 617_000, workers: int = 8, batch: int = 64
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        alone(write, folder, images, captions)
        loaded = alone(load, folder)
        alone(start, folder)  # which computes the features
        warm = alone(start, folder)
        grown = growth(folder, workers, batch)
    before, after = grown.values()
    return {
        **loaded,
        "CPU seconds of a start with cached features": warm,
        **grown,
        "workers after an epoch over before": after / before,
    }


if __name__ == "__main__":
    print(measure())
