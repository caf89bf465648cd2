from typing import Any

import pytorch_lightning as pl
import torch

from autocaption.randomness import seed_of


class StepSeed(pl.Callback):
    """Seeds torch for each training step from (seed, epoch, batch, rank).

    Dropout then depends on nothing drawn before, so a resumed training equals an uninterrupted one.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed the generators of all devices."""
        torch.manual_seed(seed_of("step", self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))
