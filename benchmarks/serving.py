"""`make bench-serve`: the web service on loopback, with batches and without, against bars.

EfficientNet-Lite0 and an LSTM with random weights, beam 5, and a photograph of noise, over and over.
"""

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console
from rich.table import Table

from autocaption import build
from autocaption.data.tokenizer import EOS
from autocaption.exits import one_line_errors
from benchmarks.load import Load, load

ROOT = Path(__file__).parents[1]
MODEL = ("model=show_and_tell", "model/encoder=efficientnet_lite0", "model.encoder.pretrained=false")
CLIENTS = (1, 8, 32)
MOST_SECONDS_OF_ONE = 0.150  # p50 of one client
LEAST_GAIN = 2.0  # of batches, in throughput with the most clients


def checkpoint(folder: Path, changes: Sequence[str] = MODEL) -> Path:
    """A checkpoint of random weights, scaled to be as confident and brief as a trained model."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [*changes, "logger=none", f"run_dir={folder}", "data.features=null"])
    OmegaConf.set_struct(config, False)
    config.data.source = {
        "_target_": "benchmarks.generated.Generated",
        **{"train": 6000, "val": 1, "test": 1, "captions": 5},
    }
    config.tokenizer.min_count = 1
    torch.manual_seed(0)
    _, captioner = build.from_config(config)
    with torch.no_grad():
        output = captioner.decoder.output  # type: ignore[attr-defined]
        output.weight *= 60
        output.bias[EOS] += 10
    file = folder / "random.ckpt"
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, file)
    return file


@contextmanager
def server(file: Path, *words: str) -> Iterator[str]:
    """The address of a service in a process of its own."""
    command = (sys.executable, "-m", "autocaption.serve", "--checkpoint", str(file), "--port", "0", *words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            raise RuntimeError(line + process.stderr.read())
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def photograph(size: tuple[int, int]) -> tuple[bytes, str]:
    """A request's body and content type, with a JPEG file of smooth noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=88)
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return head + file.getvalue() + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def cpu_seconds(url: str) -> float:
    """What the service's process has computed, by its own metrics."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds")), 0.0)


def measure(
    *,
    model: Sequence[str] = MODEL,
    clients: Sequence[int] = CLIENTS,
    requests: int = 160,
    size: tuple[int, int] = (500, 375),
) -> dict[tuple[str, int], tuple[Load, float]]:
    """What so many clients see, and the service's CPU seconds an answer, which a busy machine changes less.

    Returns:
        {(`batches` or `one by one`, clients): (what they saw, CPU seconds)}.
    """
    picture, found = photograph(size), {}
    with tempfile.TemporaryDirectory() as folder:
        file = checkpoint(Path(folder), model)
        for name, words in {"batches": (), "one by one": ("--batch-size", "1")}.items():
            with server(file, "--device", "cpu", *words) as url:
                load(f"{url}/api/caption", *picture, clients[-1], min(requests, 64))  # warms it up
                for many in clients:
                    count = requests if many > 1 else requests // 2
                    before = cpu_seconds(url)
                    seen = load(f"{url}/api/caption", *picture, many, count)
                    found[name, many] = seen, (cpu_seconds(url) - before) / count
    return found


def main() -> None:
    """Measure, print, and say whether the bars are reached."""
    console, found = Console(highlight=False), measure()
    table = Table("", "clients", "answers/s", "p50 ms", "p99 ms", "CPU ms an answer")
    for (name, clients), (seen, cpu) in found.items():
        row = (seen.throughput, seen.p50 * 1000, seen.p99 * 1000, cpu * 1000)
        table.add_row(name, str(clients), *(f"{value:,.1f}" for value in row))
    console.print(table)
    one = found["batches", CLIENTS[0]][0].p50
    gain = found["batches", CLIENTS[-1]][0].throughput / found["one by one", CLIENTS[-1]][0].throughput
    for reached, text in (
        (one <= MOST_SECONDS_OF_ONE, f"p50 of one client {one * 1000:.0f} ms, bar 150 ms"),
        (gain >= LEAST_GAIN, f"batches give {gain:.2f} times the throughput at 32 clients, bar 2"),
    ):
        console.print(f"{'reaches' if reached else 'MISSES'}: {text}")


if __name__ == "__main__":
    one_line_errors(main)
