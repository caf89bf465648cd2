"""Training from cached features against the arithmetic limit and against caption-major loops.

Legend: B images, N captions an image, T time, P places, D width, R captions of the batch.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from autocaption import build
from autocaption.data.tokenizer import PAD
from autocaption.models.losses import cross_entropy, teacher_forced
from benchmarks import caption_major, products
from benchmarks.generated import FEATURE_DIM, vocabulary

CONF = Path(__file__).parents[1] / "conf"
IMAGES, CAPTIONS = 32, 4  # a batch: 32 images with 4 captions each
Timed = Callable[[], float]  # does some work and returns the seconds a step


def experiment(folder: str, images: int, batch: int, *changes: str) -> DictConfig:
    """The configuration of experiment=show_and_tell on generated data.

    Args:
        folder: takes the features and the run's files.
        images: number of training images.
        batch: images a batch.
        changes: more overrides.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train",
            [
                "experiment=show_and_tell",
                "trainer=cpu",
                "model/encoder=convnet",
                f"data.root={folder}",
                f"data.features_folder={folder}/features",
                f"data.batch_size={batch}",
                f"run_dir={folder}",
                "logger=csv",
                "trainer.precision=32-true",
                *changes,
            ],
        )
    OmegaConf.set_struct(config, False)
    source = {"train": images, "val": 32, "test": 32, "captions": CAPTIONS}
    config.data.source = {"_target_": "benchmarks.generated.Generated", **source}
    config.model.encoder = {"_target_": "benchmarks.generated.Colours"}
    config.tokenizer.min_count = 1
    return config


class Rounds(pl.Callback):
    """Interrupts training every `steps` steps to time the others, so that all run on the same machine."""

    def __init__(self, others: Sequence[Timed], rounds: int, steps: int) -> None:
        self.others, self.rounds, self.steps = others, rounds, steps
        self.ours: list[float] = []
        self.theirs: list[list[float]] = []
        self._start = 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step % self.steps:
            return
        if self._start:
            self.ours.append((time.perf_counter() - self._start) / self.steps)
            self.theirs.append([other() for other in self.others])
            trainer.should_stop = len(self.ours) == self.rounds
        self._start = time.perf_counter()


def training_steps(dataset, model, captions: int, count: int) -> Timed:
    """Times `count` training steps of the caption-major loop, with this many captions a batch."""
    endless = caption_major.steps(dataset, model, captions)
    next(endless)

    def timed() -> float:
        start = time.perf_counter()
        for _ in islice(endless, count):
            pass
        return (time.perf_counter() - start) / count

    return timed


def passes(captioner, memory_BPD, tokens_BNT, count: int) -> Timed:
    """Times `count` forward and backward passes of the decoder."""

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(count):
            forced = teacher_forced(captioner.decoder, memory_BPD, tokens_BNT)
            loss = cross_entropy(forced.logits_MV, forced.targets_M).objective
            gradients = torch.autograd.grad(loss, list(captioner.decoder.parameters()))
            del gradients
        return (time.perf_counter() - start) / count

    return timed


def measure(
    *,
    images: int = 6000,
    batch: int = IMAGES,
    dim: int = 512,
    backbone: str = "resnet101",
    pixels: int = 224,
    rounds: int = 5,
    steps: int = 8,
) -> dict[str, float]:
    sizes = (f"model.decoder.embed_dim={dim}", f"model.decoder.hidden_dim={dim}")
    captions = batch * CAPTIONS
    with tempfile.TemporaryDirectory() as folder:
        config = experiment(folder, images, batch, *sizes)
        data, captioner = build.from_config(config)
        data.preload("train", "val")
        split = data.source.split("train")
        stored = np.load(next(Path(folder, "features").glob("*/features.npy")), mmap_mode="r")
        vocab = len(vocabulary())

        plain = caption_major.Model(FEATURE_DIM, vocab, dim, 0.5)
        features = caption_major.Captions(
            split, lambda i: torch.from_numpy(stored[i, 0, 0].astype(np.float32)), data.tokenizer
        )
        resnet: Any = torchvision.models.get_model(backbone)
        width, resnet.fc = resnet.fc.in_features, torch.nn.Identity()
        encoder = torch.nn.Sequential(resnet, torch.nn.Unflatten(1, (1, -1)))
        original = caption_major.Model(width, vocab, dim, 0.5, encoder)
        picture_CHW = torch.randn(3, pixels, pixels)
        pictures = caption_major.Captions(split, lambda i: picture_CHW, data.tokenizer)

        shapes, padded = _products(data, captioner, batch, dim, vocab)
        first = next(iter(data.train_dataloader()))
        once_BPD = captioner.memory(first)
        each_BPD = once_BPD.repeat_interleave(CAPTIONS, dim=0)
        others = [
            lambda: products.seconds(shapes),
            training_steps(features, plain, captions, steps),
            passes(captioner, once_BPD, first.tokens_BNT, steps),
            passes(captioner, each_BPD, first.tokens_BNT.flatten(0, 1).unsqueeze(1), steps),
        ]
        timings = Rounds(others, rounds, steps)
        trainer: Any = build.trainer(config)
        trainer.callbacks.append(timings)
        trainer.fit(captioner, data)
        slow = training_steps(pictures, original, captions, 1)()
    ours = statistics.median(timings.ours)
    limit, loop, once, each = (statistics.median(times) for times in zip(*timings.theirs, strict=True))
    return {
        "captions/s": captions / ours,
        "GEMM rate of the step's products, GFLOP/s": products.flops(shapes) / limit / 1e9,
        "of the arithmetic limit": limit / ours,
        "captions/s, features caption-major": captions / loop,
        "times features caption-major": loop / ours,
        "captions/s, images caption-major": captions / slow,
        "times images caption-major": slow / ours,
        "memory once a caption over once an image": each / once,
        "padded share of the decoder's work": padded,
    }


def _products(data, captioner, images: int, dim: int, vocab: int) -> tuple[list[products.Shape], float]:
    """A step's matrix products, and the share of padding among the tokens that go through the LSTM."""
    batch = next(iter(data.train_dataloader()))
    lengths_R = (batch.tokens_BNT != PAD).sum(-1).flatten() - 1  # <eos> is no input
    rows_T = [int((lengths_R > t).sum()) for t in range(int(lengths_R.max()))]
    embedded: list[int] = []
    count = captioner.decoder.embed.register_forward_hook(
        lambda _, args, out: embedded.append(args[0].numel())
    )
    teacher_forced(captioner.decoder, captioner.memory(batch), batch.tokens_BNT)
    count.remove()
    return products.show_and_tell(rows_T, images, FEATURE_DIM, dim, vocab), 1 - sum(rows_T) / sum(embedded)


if __name__ == "__main__":
    print(measure())
