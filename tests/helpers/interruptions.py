"""Callbacks that tests put into a training, to interrupt it and to look into it."""

import os
import shutil
import signal
from pathlib import Path

import pytorch_lightning as pl

from autocaption.callbacks.last_checkpoint import LastCheckpoint
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


class Crash(pl.Callback):
    """Raises an error that nobody foresaw."""

    def on_train_batch_end(self, *_, **__):
        raise RuntimeError("a bug")


class OneRank(pl.Callback):
    """One rank of several fails, or is killed, in its second step."""

    def __init__(self, how, rank=1):
        self.how, self.rank = how, rank

    def on_train_batch_end(self, trainer, *_, **__):
        if trainer.global_rank != self.rank or trainer.global_step < 2:
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.how == "mistake":
            raise UserError("a mistake that only this rank sees")
        if self.how == "bug":
            raise RuntimeError("a bug")


class Notes(pl.Callback):
    """Each rank writes down where it stands after training."""

    def __init__(self, folder):
        self.folder = folder

    def teardown(self, trainer, pl_module, stage):
        if stage == "fit":
            weights = {name: value.tolist() for name, value in pl_module.state_dict().items()}
            notes = {"epochs": trainer.current_epoch, "weights": weights, "seen": PlainEncoder.seen}
            write_json(Path(self.folder) / f"rank{trainer.global_rank}.json", notes)
