"""The order in which images are read, and what each batch counts in its optimizer step."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler, SequentialSampler

from autocaption.randomness import seed_of

Key = tuple[int, int]  # (epoch, index in the split)


class Weights(NamedTuple):
    """What a batch counts in its optimizer step, for a mean over tokens and for one over images."""

    tokens: float = 1.0
    images: float = 1.0


class TrainingSampler(SequentialSampler):
    """A permutation drawn from (seed, epoch), dealt to the ranks in turn.

    It yields the epoch with each index, so that a worker can draw an image's augmentation from (seed,
    epoch, index) without a state of its own. Batch n of all ranks together is batch n of one device with
    `world` times the batch size. Every rank gets equally many batches, as averaging gradients needs: a rank
    that would have one fewer repeats an image in a batch that counts nothing (`weights`).

    It is a SequentialSampler in name, since Lightning's `overfit_batches` replaces any other.

    Args:
        tokens: the number of real tokens of each image of the split.
        batch_size: images a batch and rank.
        seed: the run's seed.
        rank: rank of this process, of `world` processes.
        world: number of processes.
        position: (epoch, images already trained on, by all ranks) that a resumed training starts from; the
            images are a multiple of batch_size x world.
        shuffled: False for the order of the split in every epoch.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        position: tuple[int, int] = (0, 0),
        shuffled: bool = True,
    ) -> None:
        super().__init__(tokens)
        self.tokens, self.batch_size, self.seed = tokens, batch_size, seed
        self.rank, self.world, self.position, self.shuffled = rank, world, position, shuffled
        self.epoch = position[0]
        self._order = -1, np.zeros(0, np.int64)  # of the last epoch that was asked for

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._dealt(np.arange(len(self.tokens))))

    def __iter__(self) -> Iterator[Any]:
        # The epoch is read now and not at the first item: workers prefetch before Lightning sets the next.
        epoch, (resumed_epoch, images) = self.epoch, self.position
        first = images // self.world if epoch == resumed_epoch else 0
        return iter([(epoch, index) for index in self._dealt(self.order(epoch)).tolist()[first:]])

    def order(self, epoch: int) -> np.ndarray:
        """The indices of all images as all ranks together take them in an epoch."""
        if self._order[0] != epoch:
            order = torch.arange(len(self.tokens))
            if self.shuffled:
                generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
                order = torch.randperm(len(self.tokens), generator=generator)
            self._order = epoch, order.numpy()
        return self._order[1]

    def weights(self, epoch: int, batch: int, step: range, accumulate: int) -> Weights:
        """What a batch of this rank counts, relative to the mean over ranks and accumulated batches.

        With them, the mean of the batches' losses, each a mean over its own tokens or images, is the mean
        over all tokens or images of the step. They are 1.0 where the step is this batch alone.

        Args:
            epoch: the epoch.
            batch: number of the batch in its epoch.
            step: numbers of the batches of the same optimizer step.
            accumulate: the number of batches by which the sum of a step's losses is divided, also at the
                end of an epoch, where a step has fewer.
        """
        order, size = self.order(epoch), self.batch_size * self.world  # of a batch over all ranks
        own = order[batch * size : (batch + 1) * size][self.rank :: self.world]
        total = order[step.start * size : step.stop * size]
        parts = (self.tokens[own].sum(), self.tokens[total].sum()), (len(own), len(total))
        return Weights(*(float(part * self.world * accumulate / max(whole, 1)) for part, whole in parts))

    def _dealt(self, order: np.ndarray) -> np.ndarray:
        """This rank's part of an order."""
        own = order[self.rank :: self.world]
        batches, most = (-(-count // self.batch_size) for count in (len(own), -(-len(order) // self.world)))
        return own if batches == most else np.append(own, order[:1])


class InOrder(Sampler[list[Key]]):
    """The batches of a split in order, each image once, dealt to the ranks in turn.

    A batch is what it is on one device, whatever the number of devices, so that its captions and sums are the
    same to the last bit. Ranks that would have one batch fewer than others get an empty one: they take part
    in all that ranks do together.

    torch's DistributedSampler repeats images to fill the last batch, which changes metrics.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.size, self.batch_size, self.rank, self.world = size, batch_size, rank, world

    def __len__(self) -> int:
        return -(-self.size // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[Key]]:
        for turn in range(len(self)):
            first = (turn * self.world + self.rank) * self.batch_size
            yield [(0, index) for index in range(first, min(first + self.batch_size, self.size))]
