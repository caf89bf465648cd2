"""Signals that ask a training to stop."""

import signal
import threading
from typing import Any

import pytorch_lightning as pl

from autocaption.callbacks.agreement import Agreement
from autocaption.callbacks.last_checkpoint import LastCheckpoint, is_clean
from autocaption.runs.run import STOPS, PreemptedError


class Preemption(pl.Callback):
    """On SIGINT, SIGTERM, SIGUSR1 or SIGUSR2: finishes the step, saves last.ckpt, and stops.

    Ranks agree at every step, so a signal to one of them stops all. A second SIGINT stops at once. In a
    validation a single device stops after the batch; the resumed run starts that validation anew. Several
    devices, which may have different numbers of batches, finish it.

    Lightning's own handlers save nothing on SIGTERM and are not registered where another one is; these are
    installed after them and stay until training ends. Its requeuing in Slurm is turned off (slurm.py).
    """

    def __init__(self) -> None:
        self._received = 0
        self._agreement = Agreement()
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in STOPS}
            # Lightning (2.6) waits for the device in every step to agree on SIGTERM, which is ours now.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Stop before this batch, where the training can be resumed exactly from there."""
        number = self._agreement(self._received)
        if not number:
            return
        last = last_checkpoint_of(trainer)
        if last is not None and last.saved_step != trainer.global_step:
            if not is_clean(trainer, batch_idx):
                return
            last.save_before(trainer)
        raise PreemptedError(number)

    def on_validation_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Stop amid a validation that belongs to a training."""
        if (
            self._received
            and trainer.state.fn == "fit"
            and trainer.world_size == 1
            and not trainer.sanity_checking
        ):
            if (last := last_checkpoint_of(trainer)) is not None:
                last.save_amid_validation(trainer)
            raise PreemptedError(self._received)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before the test, where a signal came since the last step; last.ckpt has been saved by now."""
        self._put_back()
        # Ranks learn of a number one call later.
        if number := self._agreement(self._received) or self._agreement(self._received):
            raise PreemptedError(number)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put back the handlers of before."""
        self._agreement.end()
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: Any) -> None:
        if self._received == number == signal.SIGINT:
            raise PreemptedError(number)
        self._received = number


def last_checkpoint_of(trainer: Any) -> LastCheckpoint | None:
    """The callback that saves last.ckpt, where there is one."""
    return next((one for one in trainer.callbacks if isinstance(one, LastCheckpoint)), None)
