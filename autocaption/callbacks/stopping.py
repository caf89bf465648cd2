"""Early stopping of a training that may be interrupted."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

log = logging.getLogger(__name__)


class StoppingKept(pl.Callback):
    """Lets Lightning's EarlyStopping (2.6) stop a resumed training where it stops an uninterrupted one.

    By itself it looks at the end of an epoch, after last.ckpt is saved, which then doesn't know of it; and a
    training that is resumed there has no metric to look at. Its state doesn't tell that it has stopped the
    training, and holds the patience, which would win over the configured one.

    Args:
        stopping: made to look after each validation, where nothing else is configured.
    """

    def __init__(self, stopping: EarlyStopping) -> None:
        self.stopping, self.settings = stopping, _settings(stopping)
        if stopping._check_on_train_epoch_end is None:
            stopping._check_on_train_epoch_end = False
        self._changed = False

    @property
    def state_key(self) -> str:
        """As there may be several."""
        return f"{type(self).__qualname__} {self.stopping.state_key}"

    def state_dict(self) -> dict[str, Any]:
        """What it stops by."""
        return self.settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Whether it stops by something else now."""
        self._changed = state_dict != self.settings

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Train no further where it had stopped the training, unless it stops by something else now."""
        self.stopping.patience = self.settings["patience"]
        if self._changed:
            self.stopping.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        trainer.should_stop |= self._has_stopped()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that it has stopped the training."""
        if self._has_stopped() and trainer.is_global_zero:
            log.info("Stopped early: %s", self.stopping.stopping_reason_message)

    def _has_stopped(self) -> bool:
        return self.stopping.stopping_reason is not EarlyStoppingReason.NOT_STOPPED


def _settings(stopping: EarlyStopping) -> dict[str, Any]:
    names = "patience", "min_delta", "stopping_threshold", "divergence_threshold"
    return {name: getattr(stopping, name) for name in names}
