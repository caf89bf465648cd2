"""How cost grows with the data: time a caption and memory at 1, 4 and 16 times Flickr8k's captions."""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytorch_lightning as pl

from autocaption import build
from benchmarks.generated import FEATURE_DIM
from benchmarks.memory import peak_megabytes
from benchmarks.part import quieten
from benchmarks.startup import first_step
from benchmarks.training import CAPTIONS, IMAGES, experiment

FLICKR8K = 30_000  # captions
WARM, STEPS = 10, 50
MILLION = (
    *("train.py", "experiment=shapes", "data.source.train=200000", "test=false", "logger=csv"),
    *("trainer.max_steps=1", "trainer.limit_val_batches=0"),
)


class Stored:
    """A feature cache of random features, made without pictures."""

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
    """Seconds of STEPS steps after WARM ones."""

    seconds, _start = 0.0, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == WARM:
            self._start = time.perf_counter()
        elif trainer.global_step == WARM + STEPS:
            self.seconds = time.perf_counter() - self._start


def train(captions: int) -> tuple[float, float]:
    """(microseconds a caption, peak megabytes) of training on this many captions."""
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        changes = (f"trainer.max_steps={WARM + STEPS}", "trainer.limit_val_batches=0")
        config = experiment(folder, captions // CAPTIONS, *changes)
        data, captioner = build.from_config(config)
        data.features = Stored(folder)
        data.preload("train", "val")
        trainer, clock = build.trainer(config, captioner), Clock()
        trainer.callbacks.append(clock)
        trainer.fit(captioner, data)
    return clock.seconds / (STEPS * IMAGES * CAPTIONS) * 1e6, peak_megabytes()


def measure() -> dict[str, float]:
    figures = {}
    spawn = multiprocessing.get_context("spawn")
    for times in (1, 4, 16):
        with ProcessPoolExecutor(1, spawn) as pool:  # a process each, for memory of its own
            microseconds, megabytes = pool.submit(train, times * FLICKR8K).result()
        figures[f"{times}x: microseconds a caption"] = microseconds
        figures[f"{times}x: peak MB"] = megabytes
    for name in ("microseconds a caption", "peak MB"):
        figures[f"16x over 1x: {name}"] = figures[f"16x: {name}"] / figures[f"1x: {name}"]
    with tempfile.TemporaryDirectory() as folder:
        seconds, megabytes = first_step(MILLION, folder)
    return {
        **figures,
        "shapes of 1,000,000 captions: seconds to the first step": seconds,
        "shapes of 1,000,000 captions: peak MB": megabytes,
    }


if __name__ == "__main__":
    print(measure())
