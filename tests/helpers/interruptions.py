"""What tests put into a training to interrupt it, and what an interrupted one is compared with."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import ClassVar

import pytorch_lightning as pl
import torch

from autocaption.callbacks.last_checkpoint import LastCheckpoint
from autocaption.callbacks.preemption import Preemption
from autocaption.data.sources.shapes import Shapes
from autocaption.errors import UserError
from autocaption.files import write_json
from helpers.plain_encoder import PlainEncoder


class Copies(LastCheckpoint):
    """Keeps a copy of every checkpoint that it saves."""

    def save(self, trainer, rewind=None):
        super().save(trainer, rewind)
        number = len(list(self.path.parent.glob("copy-*")))
        shutil.copy(self.path, self.path.parent / f"copy-{number:02}.ckpt")


class Kick(pl.Callback):
    """Sends a signal at one of the moments between batches of training and validation."""

    def __init__(self, moment):
        self.moment, self.seen = moment, 0

    def on_train_batch_end(self, *_, **__):
        self.count()

    def on_validation_batch_start(self, *_, **__):
        self.count()

    def count(self):
        if self.seen == self.moment:
            os.kill(os.getpid(), signal.SIGUSR1)
        self.seen += 1


class KickAfterValidation(pl.Callback):
    """Sends a signal once the last validation is done."""

    def on_validation_end(self, trainer, *_):
        if trainer.current_epoch + 1 == trainer.max_epochs:
            os.kill(os.getpid(), signal.SIGUSR1)


class CtrlC(pl.Callback):
    """Presses Ctrl-C, in the training twice, or in the test."""

    def __init__(self, stage):
        self.stage = stage

    def on_train_batch_end(self, *_):
        if self.stage == "train":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    def on_test_batch_end(self, *_):
        if self.stage == "test":
            signal.raise_signal(signal.SIGINT)


class Given(pl.Callback):
    """Remembers what every one of its kind was given."""

    seen: ClassVar = []

    def __init__(self, a, b):
        self.seen.append((a, b))


class Crash(pl.Callback):
    """Raises an error that nobody foresaw."""

    def on_train_batch_end(self, *_, **__):
        raise RuntimeError("a bug")


class OneRank(pl.Callback):
    """One rank of several fails, or is killed, after a step."""

    def __init__(self, how, rank=1, step=2):
        self.how, self.rank, self.step = how, rank, step

    def on_train_batch_end(self, trainer, *_, **__):
        if trainer.global_rank != self.rank or trainer.global_step < self.step:
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.how == "mistake":
            raise UserError("a mistake that only this rank sees")
        if self.how == "bug":
            raise RuntimeError("a bug")


class Halt(pl.Callback):
    """Holds the first attempt after a step until a signal comes, or a file `go` in a folder."""

    def __init__(self, folder, step):
        self.folder, self.step = Path(folder), step

    def on_train_batch_end(self, trainer, *_, **__):
        file = self.folder / "halted"
        if trainer.global_step != self.step or file.exists() or trainer.global_rank:
            return
        file.touch()
        (preemption,) = (one for one in trainer.callbacks if isinstance(one, Preemption))
        deadline = time.monotonic() + 240
        while not (preemption._received or (self.folder / "go").exists() or Path("go").exists()):
            assert time.monotonic() < deadline, "no signal came"
            time.sleep(0.05)


def source_that_waits(**arguments):
    """The built-in scenes; the first attempt waits for a signal as it loads them."""
    if not Path("loading").exists():
        Path("loading").touch()
        signal.pause()
    return Shapes(**arguments)


def left(folder):
    """Everything that a run leaves and that must not depend on interruptions."""
    saved = {
        name: torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("best", "last")
    }
    tensors = {f"{name} {key}": value for name, state in saved.items() for key, value in state.items()}
    files = {name: (folder / name).read_text() for name in ("metrics.json", "captions.json")}
    return tensors, files | {"csv": (folder / "csv/metrics.csv").read_text()}


def assert_same(folder, whole):
    (tensors, files), (expected, expected_files) = left(folder), left(whole)
    assert files == expected_files
    assert tensors.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []


class Notes(pl.Callback):
    """Each rank writes down where it stands after training."""

    def __init__(self, folder):
        self.folder = folder

    def teardown(self, trainer, pl_module, stage):
        if stage == "fit":
            weights = {name: value.tolist() for name, value in pl_module.state_dict().items()}
            notes = {"epochs": trainer.current_epoch, "weights": weights, "seen": PlainEncoder.seen}
            write_json(Path(self.folder) / f"rank{trainer.global_rank}.json", notes)
