"""The order in which images are read."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler, SequentialSampler

from autocaption.randomness import seed_of

Key = tuple[int, int]  # (epoch, index in the split)


class TrainingSampler(Sampler[Key]):
    """A permutation drawn from (seed, epoch), dealt to the ranks in turn.

    It yields the epoch with each index, so that a worker can draw an image's augmentation from (seed,
    epoch, index) without a state of its own. Every rank gets equally many images, as averaging gradients
    needs: where they can't be divided, the first of the permutation are repeated at its end.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.world)

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(seed_of("order", self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        for turn in range(len(self)):
            yield self.epoch, order[(turn * self.world + self.rank) % self.size]


class InOrder(SequentialSampler):
    """Every image once, in order, over all ranks together.

    torch's DistributedSampler repeats images to fill the last batch, which changes metrics. It is a
    SequentialSampler, since Lightning's `overfit_batches` replaces any other.
    """

    def __init__(self, size: int, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, size, world)
        super().__init__(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Any]:
        return ((0, index) for index in self.indices)
