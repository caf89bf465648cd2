"""Seconds from a command to its first output or training step."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = ("train.py", "--cfg", "job")
HYDRA, TORCH = ("-c", "import hydra"), ("-c", "import torch")
# Drawn pictures and a frozen encoder without a download; otherwise a real experiment.
TRAIN = (
    *("train.py", "trainer=cpu", "model/encoder=efficientnet_lite0", "model.encoder.pretrained=false"),
    *("model.encoder.image_size=64", "data.source.train=640", "data.source.val=8", "data.features=cache"),
    *("test=false", "logger=csv", "trainer.max_steps=1", "trainer.limit_val_batches=0"),
)
NOTE = "+callbacks.first._target_=benchmarks.first_step.FirstStep"


def python(words: tuple[str, ...], folder: str) -> tuple[float, str, float]:
    """Run a Python process: (its seconds, its stderr, when it started)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = (str(ROOT / words[0]), *words[1:]) if words[0].endswith(".py") else words
    start, clock = time.time(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - clock, done.stderr, start


def first_step(command: tuple[str, ...], folder: str) -> tuple[float, float]:
    """(seconds, peak megabytes) from a training command to the end of its first step."""
    _, stderr, start = python((*command, NOTE), folder)
    (line,) = (line for line in stderr.splitlines() if line.startswith("first step"))
    *_, end, megabytes = line.split()
    return float(end) - start, float(megabytes)


def measure(*, rounds: int = 5, train: tuple[str, ...] = TRAIN) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        first_step(train, folder)  # computes the features
        seconds: dict = {words: [] for words in (CONFIG, HYDRA, TORCH)}
        steps = []
        for _ in range(rounds):
            for words, found in seconds.items():
                found.append(python(words, folder)[0])
            steps.append(first_step(train, folder)[0])
    config, hydra, torch = (statistics.median(found) for found in seconds.values())
    return {
        "seconds of --cfg job": config,
        "seconds of import hydra": hydra,
        "seconds of import torch": torch,
        "seconds of --cfg job beyond hydra": config - hydra,
        "--cfg job over import torch": config / torch,
        "seconds to the first step, features cached": statistics.median(steps),
    }


if __name__ == "__main__":
    print(measure())
