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

    Args:
        size: images of the split.
        seed: the run's seed.
        rank: rank of this process, of `world` processes.
        world: number of processes.
        position: (epoch, images already trained on, by all ranks) that a resumed training starts from.
    """

    def __init__(
        self, size: int, seed: int, rank: int = 0, world: int = 1, position: tuple[int, int] = (0, 0)
    ) -> None:
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self.epoch, self.position = position[0], position

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.world)

    def __iter__(self) -> Iterator[Key]:
        # The epoch is read now and not at the first item: workers prefetch before Lightning sets the next.
        epoch, (resumed_epoch, images) = self.epoch, self.position
        generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        first = images // self.world if epoch == resumed_epoch else 0
        turns = range(first, len(self))
        return iter([(epoch, order[(turn * self.world + self.rank) % self.size]) for turn in turns])


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
