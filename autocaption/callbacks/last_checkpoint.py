"""The checkpoint that an interrupted run resumes from."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from autocaption.callbacks.agreement import Agreement
from autocaption.checks import number, whole
from autocaption.runs.folder import rotate

MOST_KEPT, MOST_MINUTES = 1000, 60 * 24 * 365


@runtime_checkable
class Committing(Protocol):
    """A logger that holds rows back, and must not lose those that a resumed run doesn't log again."""

    def commit(self) -> None:
        """Write what is held back."""
        ...


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt` after every validation and epoch, and by steps and time in between.

    A resumed training equals an uninterrupted one from each of these moments. Amid an epoch that takes care:
    Lightning has no hook after all work on a batch is done, and a state saved in on_train_batch_end lacks the
    metrics that are logged, and the validation that is run, after it. So a save that is due happens when the
    next batch starts, with the progress counters set back to before it, but not right after a validation
    (which has saved) and not amid accumulated gradients.

    Args:
        folder: the `checkpoints/` of the run folder.
        every_n_steps: optimizer steps between two saves; 0 for none.
        every_n_minutes: minutes between two saves; 0 for none.
        keep: how many are kept: last.ckpt, last-1.ckpt and so on.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(self, folder: str, every_n_steps: int, every_n_minutes: float, keep: int) -> None:
        self.path, self.keep = Path(folder) / "last.ckpt", whole("callbacks.last.keep", keep, 1, MOST_KEPT)
        self.every_n_steps = whole("callbacks.last.every_n_steps", every_n_steps, 0)
        number("callbacks.last.every_n_minutes", every_n_minutes, at_least=0, at_most=MOST_MINUTES)
        self.interval = timedelta(minutes=every_n_minutes).total_seconds()
        self.saved_step = -1  # the last one that was saved; none yet
        self._counted_from, self._saved_at = 0, time.monotonic()
        self._rewind: Callable[[dict[str, Any]], None] | None = None
        self._agreement = Agreement()

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Count steps and time from here, and batches as they are counted now."""
        if trainer.ckpt_path is not None:
            _count_anew(trainer)
        self._counted_from, self._saved_at = trainer.global_step, time.monotonic()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Save, if it is due, the state between the batch before and this one."""
        if self._is_due(trainer) and is_clean(trainer, batch_idx):
            self.save_before(trainer)

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Save after each validation, but not amid accumulated gradients, which a checkpoint doesn't hold."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not _is_amid_step(trainer):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Save after an epoch without a validation, also one that max_steps or max_time cuts short."""
        if self.saved_step != trainer.global_step:
            self.save(trainer, None if trainer.is_last_batch else _to_amid_epoch)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End what ranks agree on."""
        self._agreement.end()

    def save_before(self, trainer: pl.Trainer) -> None:
        """Save the state before the batch that just started."""
        self.save(trainer, _to_before_batch)

    def save_amid_validation(self, trainer: pl.Trainer) -> None:
        """Save the state after the last training batch; a resumed run starts the validation anew."""
        self.save(trainer, _to_validation_start)

    def save(self, trainer: pl.Trainer, rewind: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Save now; every rank calls it.

        Args:
            trainer: the trainer.
            rewind: sets the progress of the fit loop's parts back, by their names.
        """
        if trainer.is_global_zero:
            rotate(self.path, self.keep)
        for logger in trainer.loggers:
            if isinstance(logger, Committing):
                logger.commit()
        self._rewind = rewind
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._rewind = None
        self.saved_step = self._counted_from = trainer.global_step
        self._saved_at = time.monotonic()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Set the progress back to where the saved state is."""
        if self._rewind is not None:
            self._rewind(checkpoint["loops"]["fit_loop"])

    def _is_due(self, trainer: Any) -> bool:
        steps = trainer.global_step - self._counted_from
        by_steps = 0 < self.every_n_steps <= steps
        by_time = steps > 0 and 0 < self.interval <= time.monotonic() - self._saved_at
        if self.interval:  # ranks have clocks of their own
            by_time = bool(self._agreement(by_time))
        return by_steps or by_time


def _to_before_batch(loops: dict[str, Any]) -> None:
    progress = loops["epoch_loop.batch_progress"]
    for counts in (progress["current"], progress["total"]):
        counts["ready"] -= 1


def _to_amid_epoch(loops: dict[str, Any]) -> None:
    """As if the epoch went on, for a run that is resumed with more steps."""
    for counts in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
        counts["processed"] -= 1


def _to_validation_start(loops: dict[str, Any]) -> None:
    """As if the validation had been interrupted in its first batch."""
    progress = loops["epoch_loop.val_loop.batch_progress"]
    for counts in (progress["current"], progress["total"]):
        done = 0 if counts is progress["current"] else counts["completed"]
        counts |= {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}


def _count_anew(trainer: Any) -> None:
    """Count the batches of a resumed epoch by today's batch size and number of ranks.

    So the epoch ends where its images end. Between two epochs, all batches of the last one are done.
    """
    current = trainer.fit_loop.epoch_loop.batch_progress.current
    batches = getattr(trainer.datamodule, "resumed_batches", lambda: None)()
    if batches is None:
        batches = trainer.num_training_batches if current.ready else 0
    if current.processed != batches:
        current.ready = current.started = current.processed = current.completed = batches


def _is_amid_step(trainer: Any) -> bool:
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return batches % trainer.accumulate_grad_batches != 0 and batches < trainer.num_training_batches


def is_clean(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a training can be resumed exactly before this batch of the epoch."""
    if batch_idx == 0 or batch_idx % trainer.accumulate_grad_batches:
        return False
    interval: Any = trainer.val_check_batch  # inf where the length of the epoch is unknown
    return interval == float("inf") or batch_idx % interval != 0
