from typing import Any

import pytorch_lightning as pl
import torch

from autocaption.randomness import seed_of


class StepSeed(pl.Callback):
    """Draws each step's dropout from (seed, epoch, batch, rank).

    So a resumed training goes on as if it had not been interrupted: a generator that was seeded once,
    at the start of the process, would begin again.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed the generators of every device."""
        torch.manual_seed(seed_of("step", self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))
