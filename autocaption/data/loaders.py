"""DataLoaders and their workers."""

import gc
import signal
from typing import Any

import torch
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from autocaption.data.dataset import CaptionDataset, collate

WORKER_GRACE = 60  # seconds that a worker goes on after SIGTERM


class Loaders:
    """Makes DataLoaders, and ends the workers of all of them."""

    def __init__(self) -> None:
        self._made: list[DataLoader] = []

    def make(self, dataset: CaptionDataset, workers: int, **order: Any) -> DataLoader:
        """A loader of batches.

        Args:
            dataset: what it loads.
            workers: processes that do; 0 for the main process.
            order: of the images, as arguments of DataLoader.
        """
        loader: DataLoader = DataLoader(
            dataset,
            **order,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
        )
        self._made.append(loader)
        return loader

    def end(self) -> None:
        """End all workers."""
        for loader in self._made:
            CombinedLoader(loader).reset()


def _start_worker(worker: int) -> None:
    """Let a worker share its parent's memory, and go on after a signal to the whole run.

    Looking for garbage writes to every object, and so would copy all that the parent has made. Slurm and
    Ctrl-C signal all processes, but the training finishes its step and then ends the workers itself; one that
    died before would fail it. A worker that is told to terminate still does so, in the end.
    """
    gc.freeze()
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_GRACE))
