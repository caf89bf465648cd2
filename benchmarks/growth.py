"""How cost grows with the data: time a caption and memory at 1, 4 and 16 times Flickr8k's captions."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytorch_lightning as pl

from autocaption import build
from benchmarks.generated import FEATURE_DIM
from benchmarks.memory import peak_megabytes
from benchmarks.part import quieten
from benchmarks.startup import first_step
from benchmarks.training import CAPTIONS, IMAGES, experiment

MILLION = (
    *("train.py", "experiment=shapes", "trainer=cpu", "data.source.train=200000", "test=false", "logger=csv"),
    *("trainer.max_steps=1", "trainer.limit_val_batches=0"),
)


class Stored:
    """A feature cache of random features that needs no pictures."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def get(self, source, images, transform, views: int) -> np.memmap:
        shape, file = (len(images), views, 1, FEATURE_DIM), f"{self.folder}/{len(images)}.npy"
        stored = np.lib.format.open_memmap(file, "w+", np.float16, shape)
        random = np.random.default_rng(0)
        for start in range(0, len(images), 4096):
            rows = stored[start : start + 4096]
            rows[:] = random.standard_normal(rows.shape, np.float32)
        return stored


class Clock(pl.Callback):
    """Measures the seconds of `steps` steps that follow `warm` others."""

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps, self.seconds, self._start = warm, steps, 0.0, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.warm:
            self._start = time.perf_counter()
        elif trainer.global_step == self.warm + self.steps:
            self.seconds = time.perf_counter() - self._start


def train(captions: int, images: int, warm: int, steps: int) -> tuple[float, float]:
    """(microseconds a caption, peak megabytes) of training on this many captions, `images` a batch."""
    with tempfile.TemporaryDirectory() as folder:
        changes = (f"trainer.max_steps={warm + steps}", "trainer.limit_val_batches=0")
        config = experiment(folder, captions // CAPTIONS, images, *changes)
        data, captioner = build.from_config(config)
        data.features = Stored(folder)
        data.preload("train", "val")
        trainer: Any = build.trainer(config)
        clock = Clock(warm, steps)
        trainer.callbacks.append(clock)
        trainer.fit(captioner, data)
    return clock.seconds / (steps * images * CAPTIONS) * 1e6, peak_megabytes()


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, whose peak memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=quieten) as pool:
        return pool.submit(function, *arguments).result()


def measure(
    *,
    captions: int = 30_000,  # Flickr8k's
    images: int = IMAGES,
    warm: int = 10,
    steps: int = 50,
    million: tuple[str, ...] = MILLION,
) -> dict[str, float]:
    metrics = {}
    for times in (1, 4, 16):
        microseconds, megabytes = alone(train, times * captions, images, warm, steps)
        metrics[f"{times}x: microseconds a caption"] = microseconds
        metrics[f"{times}x: peak MB"] = megabytes
    for name in ("microseconds a caption", "peak MB"):
        metrics[f"16x over 1x: {name}"] = metrics[f"16x: {name}"] / metrics[f"1x: {name}"]
    with tempfile.TemporaryDirectory() as folder:
        seconds, megabytes = first_step(million, folder)
    return {
        **metrics,
        "shapes of 1,000,000 captions: seconds to the first step": seconds,
        "shapes of 1,000,000 captions: peak MB": megabytes,
    }


if __name__ == "__main__":
    print(measure())
