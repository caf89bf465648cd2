"""`make bench-gpu`: what one GPU trains and searches; writes benchmarks/gpu.json with the card's name.

Every case is the project's own training step or search at the default batch sizes, unless it says otherwise;
what is compared is measured in one process, one after the other.

Legend: B images, P places, D width.
"""

import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch.profiler import ProfilerActivity, profile

from autocaption import build
from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.files import write_json
from autocaption.models.captioner import Captioner
from autocaption.runs.provenance import provenance
from autocaption.runs.source_code import git_state
from autocaption.search.beam import BeamSearch
from benchmarks import search, transformer_beam
from benchmarks.generated import FEATURE_DIM
from benchmarks.part import quieten

CONF = Path(__file__).parents[1] / "conf"
FILE = Path(__file__).with_name("gpu.json")
Measured = Iterator[tuple[str, float]]  # names and values, as they are known
CAPTIONS = 5  # an image
PLACES = 49
CASES = {  # of training from stored features: overrides
    "transformer, fp32": ("model=transformer", "trainer.precision=32-true"),
    "transformer, TF32": (
        *("model=transformer", "trainer.precision=32-true", "trainer.float32_matmul_precision=high"),
    ),
    "transformer, bf16": ("model=transformer",),
    "transformer, bf16, compiled": ("model=transformer", "trainer.compile=true"),
    "transformer, bf16, batches of 256": ("model=transformer", "data.batch_size=256"),
    "transformer, self-critical, bf16": ("model=transformer", "model/loss=self_critical"),
    "m2, bf16": ("model=m2",),
    "show_attend_tell, bf16": ("model=show_attend_tell",),
    "show_and_tell, bf16": ("model=show_and_tell",),
}


class Pace(pl.Callback):
    """Times training steps and says how much of that time the GPU works.

    Args:
        warm: steps before the first that counts.
        steps: steps that are timed; then the same number runs under the profiler.
    """

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps = warm, steps
        self.seconds = self.busy = float("nan")  # a step
        watched = ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU
        self._start, self._profile = 0.0, profile(activities=[watched])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        done = trainer.global_step - self.warm
        if done == 0:
            _wait()
            self._start = time.perf_counter()
        elif done == self.steps:
            _wait()
            self.seconds = (time.perf_counter() - self._start) / self.steps
            self._profile.start()
        elif done == 2 * self.steps:
            _wait()
            self._profile.stop()
            working = sum(event.self_device_time_total for event in self._profile.key_averages()) / 1e6
            self.busy = working / self.steps / self.seconds
            trainer.should_stop = True


def experiment(folder: str, accelerator: str, *changes: str) -> DictConfig:
    """A configuration that trains and does nothing else, on generated features unless changes say more."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train",
            [
                *("data=flickr8k", f"data.root={folder}", f"data.features_folder={folder}/features"),
                *("model/encoder=convnet", "data.features=cache", "trainer=gpu", "optimizer.lr=1e-3"),
                *("callbacks=none", "logger=none", "trainer.limit_val_batches=0", "trainer.max_epochs=1000"),
                *("trainer.enable_progress_bar=false", "data/augment=none"),
                *(
                    f"trainer.accelerator={accelerator}",
                    f"run_dir={folder}",
                    "tokenizer.min_count=1",
                    *changes,
                ),
            ],
        )
    OmegaConf.set_struct(config, False)
    return config


def train(config: DictConfig, warm: int, steps: int) -> tuple[Pace, Captioner]:
    """Train until `steps` steps are timed; the model is where it was trained."""
    pace = Pace(warm, steps)
    data, captioner = build.from_config(config)
    trainer: Any = build.trainer(config)
    trainer.callbacks.append(pace)
    trainer.fit(build.compiled(config, captioner), data)
    return pace, captioner


def from_features(accelerator: str, images: int, warm: int, steps: int, sizes: tuple[str, ...]) -> Measured:
    """Training from stored features: captions a second, and the GPU's share of the time."""
    with tempfile.TemporaryDirectory() as folder:
        for case, changes in CASES.items():
            config = experiment(folder, accelerator, *changes, *sizes)
            config.data.source = {
                **{"_target_": "benchmarks.generated.Generated", "captions": CAPTIONS},
                **{"train": images, "val": 1, "test": 1},
            }
            places = 1 if "show_and_tell" in case else PLACES
            config.model.encoder = {"_target_": "benchmarks.generated.Colours", "places": places}
            pace, _ = train(config, warm, steps)
            yield f"{case}: captions/s", config.data.batch_size * CAPTIONS / pace.seconds
            yield f"{case}: GPU busy", pace.busy


def from_pictures(
    accelerator: str, images: int, pixels: tuple[int, int], warm: int, steps: int, changes: tuple[str, ...]
) -> Measured:
    """Fine-tuning from JPEG files against the encoder's bare forward and backward pass."""
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder), images, pixels)
        config = experiment(
            folder,
            accelerator,
            *("data=folder", "data.features=null", "model=transformer", "model/encoder=efficientnet_lite2"),
            *("model.encoder.pooling=grid", "model.encoder.pretrained=false", "model.encoder.trainable=all"),
            "model.decoder.max_places=96",
            *changes,
        )
        pace, captioner = train(config, warm, steps)
    encoder: Any = captioner.encoder
    batch, size = config.data.batch_size, encoder.image_size
    images_BCHW = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=captioner.device)
    encoder.train()

    def bare() -> None:
        with torch.autocast(captioner.device.type, torch.bfloat16):
            encoder(images_BCHW).float().square().mean().backward()
        encoder.zero_grad()

    alone = seconds(bare, warm, steps)
    yield "fine-tuning efficientnet_lite2: images/s", batch / pace.seconds
    yield "fine-tuning efficientnet_lite2: GPU busy", pace.busy
    yield "fine-tuning efficientnet_lite2: of the bare encoder", alone / pace.seconds


def searching(device: str, images: int, batch: int, beam: int, sizes: tuple[dict, int]) -> Measured:
    """Beam search over stored features: captions a second in fp32 and under bf16 autocast."""
    changes, dim = sizes
    decoders = {
        "transformer": (transformer_beam.Brief(transformer_beam.decoder(**changes).to(device)), PLACES),
        "show_and_tell": (search.decoder(dim).to(device), 1),
    }
    find = BeamSearch(beam, 0.0, 20)
    for name, (decoder, places) in decoders.items():
        memory_BPD = torch.randn(images, places, FEATURE_DIM, device=device).relu()
        for precision in ("fp32", "bf16"):

            def pass_over(decoder=decoder, memory_BPD=memory_BPD, precision=precision) -> None:
                with torch.inference_mode(), torch.autocast(device, enabled=precision == "bf16"):
                    for chunk_BPD in memory_BPD.split(batch):
                        find(decoder, chunk_BPD)

            yield f"beam {beam}, {name}, {precision}: captions/s", images / seconds(pass_over, 1, 1)


def seconds(call: Callable[[], None], warm: int, steps: int) -> float:
    """What a call takes, once it is warm."""
    for _ in range(warm):
        call()
    _wait()
    start = time.perf_counter()
    for _ in range(steps):
        call()
    _wait()
    return (time.perf_counter() - start) / steps


def draw_pictures(folder: Path, images: int, size: tuple[int, int]) -> None:
    """JPEG files with smooth colours, which cost as much to decode as photographs, and captions.csv."""

    def draw(number: int) -> None:
        random = np.random.default_rng(number)
        coarse = random.integers(256, size=(size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(images + 2)))
    random = np.random.default_rng(0)
    with open(folder / "captions.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "caption", "split"))
        for number in range(images + 2):
            split = ("val", "test")[number] if number < 2 else "train"
            for _ in range(CAPTIONS):
                words = random.integers(3000, size=11)
                table.writerow((f"{number}.jpg", " ".join(f"w{word}" for word in words), split))


def measure(
    *,
    accelerator: str = "gpu",
    images: int = 2048,
    warm: int = 20,
    steps: int = 40,
    pixels: tuple[int, int] = (500, 375),
    training_sizes: tuple[str, ...] = (),
    picture_changes: tuple[str, ...] = ("model.encoder.image_size=260", "data.batch_size=64"),
    search_images: int = 1024,
    search_batch: int = 128,
    beam: int = 5,
    search_sizes: tuple[dict, int] = ({}, 512),
) -> Measured:
    yield from from_features(accelerator, images, warm, steps, training_sizes)
    yield from from_pictures(accelerator, images, pixels, warm, steps, picture_changes)
    device = "cuda" if accelerator == "gpu" else accelerator
    yield from searching(device, search_images, search_batch, beam, search_sizes)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Measure, print and write the file.

    Raises:
        UserError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("make bench-gpu measures a GPU with CUDA, and torch finds none here")
    quieten()
    metrics = {}
    for name, value in measure():
        print(f"{name:60} {value:12,.3f}" if value < 100 else f"{name:60} {value:12,.0f}", flush=True)
        metrics[name] = value
    card = torch.cuda.get_device_name()
    git = git_state(Path(__file__).parents[1])
    write_json(FILE, {"metrics": metrics, "card": card, "git": git, "packages": provenance()["packages"]})


if __name__ == "__main__":
    one_line_errors(main)
