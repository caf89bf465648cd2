from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from autocaption.models.captioner import Predictions


class PredictionCallback(pl.Callback):
    """Collects what the model said of a whole split, over all ranks."""

    def __init__(self) -> None:
        self._said: list[Predictions] = []

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep a batch's captions."""
        self._said.append(outputs)

    on_test_batch_end = on_validation_batch_end

    def collect(self, order: Sequence[str]) -> list[tuple[str, str, tuple[str, ...]]]:
        """(id, caption, references) of every image of every rank, in this order of ids; once an epoch.

        A collective: every rank calls it, and every rank gets all.
        """
        mine = [triple for said in self._said for triple in zip(*said, strict=True)]
        self._said = []
        ranks = [mine]
        if dist.is_available() and dist.is_initialized():
            ranks = [mine] * dist.get_world_size()
            dist.all_gather_object(ranks, mine)
        place = {id: i for i, id in enumerate(order)}
        return sorted((triple for rank in ranks for triple in rank), key=lambda triple: place[triple[0]])
