"""Training from cached features against the arithmetic limit and against caption-major loops."""

import os
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from autocaption import build
from autocaption.data.tokenizer import PAD
from benchmarks import caption_major, products
from benchmarks.generated import FEATURE_DIM, vocabulary

CONF = Path(__file__).parents[1] / "conf"
IMAGES, CAPTIONS, DIM = 32, 4, 512  # 128 captions a batch
ROUNDS, STEPS = 5, 8


def experiment(folder: str, images: int, *changes: str):
    """Data and model of experiment=show_and_tell on generated features of this many images."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train",
            [
                "experiment=show_and_tell",
                "model/encoder=convnet",
                f"data.root={folder}",
                f"data.features_folder={folder}/features",
                f"data.batch_size={IMAGES}",
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
    """Interrupts training every STEPS steps to measure the others, so that all see the same machine."""

    def __init__(self, others) -> None:
        self.others, self.ours, self.theirs = others, [], []
        self._start = 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step % STEPS:
            return
        if self._start:
            self.ours.append((time.perf_counter() - self._start) / STEPS)
            self.theirs.append([other() for other in self.others])
            trainer.should_stop = len(self.ours) == ROUNDS
        self._start = time.perf_counter()


def a_step_of(dataset, model, count):
    """A function that trains `count` steps and returns the seconds a step."""
    endless = caption_major.steps(dataset, model, IMAGES * CAPTIONS)
    next(endless)

    def timed() -> float:
        start = time.perf_counter()
        for _ in islice(endless, count):
            pass
        return (time.perf_counter() - start) / count

    return timed


def a_pass_of(captioner, memory_BPD, tokens_BNT):
    """A function that does a forward and a backward pass STEPS times and returns the seconds of one."""

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            gradients = torch.autograd.grad(
                captioner.score(memory_BPD, tokens_BNT)[0].objective, list(captioner.decoder.parameters())
            )
            del gradients
        return (time.perf_counter() - start) / STEPS

    return timed


def measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        config = experiment(folder, 6000)
        data, captioner = build.from_config(config)
        data.preload("train", "val")
        images = data.source.split("train")
        stored = np.load(next(Path(folder, "features").glob("*/features.npy")), mmap_mode="r")
        vocab = len(vocabulary())

        plain = caption_major.Model(FEATURE_DIM, vocab, DIM, 0.5)
        features = caption_major.Captions(
            images, lambda i: torch.from_numpy(stored[i, 0, 0].astype(np.float32)), data.tokenizer
        )
        resnet = torchvision.models.resnet101()
        resnet.fc = torch.nn.Identity()
        encoder = torch.nn.Sequential(resnet, torch.nn.Unflatten(1, (1, -1)))
        original = caption_major.Model(2048, vocab, DIM, 0.5, encoder)
        pixels = torch.randn(3, 224, 224)
        pictures = caption_major.Captions(images, lambda i: pixels, data.tokenizer)

        shapes, padded = _products(data, captioner, vocab)
        batch = next(iter(data.train_dataloader()))
        each_BPD = batch.features_BPD.repeat_interleave(CAPTIONS, dim=0)
        others = [
            lambda: products.seconds(shapes),
            a_step_of(features, plain, STEPS),
            a_pass_of(captioner, batch.features_BPD, batch.tokens_BNT),
            a_pass_of(captioner, each_BPD, batch.tokens_BNT.flatten(0, 1).unsqueeze(1)),
        ]
        rounds = Rounds(others)
        trainer = build.trainer(config, captioner)
        trainer.callbacks.append(rounds)
        trainer.fit(captioner, data)
        slow = a_step_of(pictures, original, 1)()
    ours = statistics.median(rounds.ours)
    limit, loop, once, each = (statistics.median(times) for times in zip(*rounds.theirs, strict=True))
    captions = IMAGES * CAPTIONS
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


def _products(data, captioner, vocab: int) -> tuple[list[products.Shape], float]:
    """The products of a step, and which share of the tokens that go through the LSTM is padding."""
    batch = next(iter(data.train_dataloader()))
    lengths_R = (batch.tokens_BNT != PAD).sum(-1).flatten() - 1  # <eos> is no input
    rows_T = [int((lengths_R > t).sum()) for t in range(int(lengths_R.max()))]
    embedded = []
    count = captioner.decoder.embed.register_forward_hook(
        lambda _, args, out: embedded.append(args[0].numel())
    )
    captioner.score(captioner.memory(batch), batch.tokens_BNT)
    count.remove()
    return products.show_and_tell(rows_T, IMAGES, FEATURE_DIM, DIM, vocab), 1 - sum(rows_T) / sum(embedded)


if __name__ == "__main__":
    os.environ.setdefault("WANDB_MODE", "offline")
    print(measure())
