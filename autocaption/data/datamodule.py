"""The LightningDataModule."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from autocaption.checks import whole
from autocaption.data.broken_pictures import check_pictures
from autocaption.data.dataset import CaptionDataset, FeatureInputs, Inputs, PictureInputs
from autocaption.data.image_table import IdTable, captions_of
from autocaption.data.loaders import Loaders
from autocaption.data.manifest import Manifest
from autocaption.data.position import Position
from autocaption.data.samplers import InOrder, TrainingSampler, Weights
from autocaption.data.sources import CaptionedImage, Source
from autocaption.data.token_table import TokenTable
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import Transform, View
from autocaption.errors import UserError
from autocaption.ranks import is_first_rank

MOST_WORKERS = 1024  # more are a mistake: each is a process

log = logging.getLogger(__name__)


class FeatureStore(Protocol):
    """Where a frozen encoder's outputs are kept (features/cache.py)."""

    def get(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, views: int
    ) -> np.memmap:
        """Features (images, views, P, D) of a split, computed where they are not there yet."""
        ...


class CaptionDataModule(pl.LightningDataModule):
    """Batches of images with all their captions, for Lightning's Trainer.

    Args:
        source: the data set.
        tokenizer: encodes captions.
        training_transform: (picture, seed) to uint8 (3, H, W).
        evaluation_transform: likewise, the same part of a picture every time.
        batch_size: images a step and device; each comes with all its captions.
        num_workers: processes that read and transform pictures; 0 for the main process.
        seed: seed of order and augmentation.
        split: the split that `test_dataloader` reads.
        check_images: whether `preload` decodes every picture that is not known to decode.
        features: stores a frozen encoder's outputs; None to read pictures.
        feature_views: augmented views stored of each training picture; 0 for the centre crop alone.
        captions_per_image: the first captions of each image that training uses; None for all.
        manifest: remembers which pictures decode; None to check them each time.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        training_transform: Transform,
        evaluation_transform: View,
        batch_size: int,
        num_workers: int,
        seed: int,
        split: str = "test",
        check_images: bool = True,
        features: FeatureStore | None = None,
        feature_views: int = 0,
        captions_per_image: int | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        super().__init__()
        self.source, self.tokenizer = source, tokenizer
        self.training_transform, self.evaluation_transform = training_transform, evaluation_transform
        self.batch_size = whole("data.batch_size", batch_size, 1)
        self.num_workers = whole("data.num_workers", num_workers, 0, MOST_WORKERS)
        self.seed, self.test_split, self.check_images = seed, split, check_images
        self.features, self.feature_views = features, whole("data.feature_views", feature_views, 0)
        if captions_per_image is not None:
            captions_per_image = whole("data.captions_per_image", captions_per_image, 1)
        self.captions_per_image, self.manifest = captions_per_image, manifest or Manifest(None)
        self._datasets: dict[str, CaptionDataset] = {}
        self._loaders = Loaders()
        self._resumed = Position()  # of the checkpoint that training resumes from
        self._order: TrainingSampler | None = None  # of the last train_dataloader

    def split_of(self, stage: str) -> str:
        """The split that a stage (train, val, test) reads."""
        return self.test_split if stage == "test" else stage

    def preload(self, *splits: str) -> None:
        """Encode, or check, every picture of these splits before the first step.

        Raises:
            UserError: a picture is broken.
        """
        for split in splits:
            if self.features is not None:
                self._dataset(split, training=split == "train")
            elif self.check_images and is_first_rank():
                check_pictures(self.source, self.source.split(split), self.manifest)

    def training_batches(self, world: int = 1) -> int:
        """The batches of an epoch on each of `world` devices."""
        return -(-len(self.source.split("train")) // (self.batch_size * world))

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); every rank gets equally many batches.

        In order under `trainer.overfit_batches`, which takes the same batches every epoch.
        """
        dataset = self._dataset("train", training=True)
        self._order = TrainingSampler(
            dataset.tokens.counts(),
            self.batch_size,
            self.seed,
            *self._rank(),
            position=self._start(),
            shuffled=not getattr(self.trainer, "overfit_batches", 0),
        )
        return self._loader(dataset, sampler=self._order, batch_size=self.batch_size)

    def weights(self, batch_idx: int) -> Weights:
        """What a training batch of this rank counts in its optimizer step (TrainingSampler.weights)."""
        trainer: Any = self.trainer
        accumulate = trainer.accumulate_grad_batches
        first = batch_idx - batch_idx % accumulate
        assert self._order is not None
        step = range(first, min(first + accumulate, trainer.num_training_batches))
        return self._order.weights(trainer.current_epoch, batch_idx, step, accumulate)

    def state_dict(self) -> dict[str, int]:
        """Where training stands."""
        return Position.of(self.trainer, self.batch_size)._asdict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start the next training from there."""
        self._resumed = Position(state_dict["epoch"], state_dict["images"])
        if self._order is not None:  # Lightning restores sharded weights, and this, once it has a loader
            self._order.position = self._start()

    def resumed_batches(self) -> int | None:
        """Batches of the resumed epoch that are trained on, as counted now; None between two epochs.

        It differs from what the checkpoint counted where batch size or number of ranks have changed.
        """
        return self._first().images // self._images_a_batch() if self._resumed.images else None

    def _start(self) -> Position:
        """The position that training starts from; a warning where it is not the checkpoint's."""
        if self._resumed != self._first() and is_first_rank():
            log.warning(
                "No step of this batch size and number of devices ends at image %d of epoch %d; "
                "resuming from the start of the epoch",
                *(self._resumed.images, self._resumed.epoch + 1),
            )
        return self._first()

    def _first(self) -> Position:
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        return self._resumed.after_whole_steps(self._images_a_batch() * accumulate)

    def _images_a_batch(self) -> int:
        return self.batch_size * self._rank()[1]

    def val_dataloader(self) -> DataLoader:
        """The val split, each image once over all ranks."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        """The split named by `split`, each image once over all ranks."""
        return self._evaluation_loader(self.split_of("test"))

    def predict_dataloader(self) -> DataLoader:
        """Likewise."""
        return self.test_dataloader()

    def _evaluation_loader(self, split: str) -> DataLoader:
        dataset = self._dataset(split, training=False)
        return self._loader(dataset, batch_sampler=InOrder(len(dataset), self.batch_size, *self._rank()))

    def _loader(self, dataset: CaptionDataset, **order: Any) -> DataLoader:
        workers = 0 if self.features else self.num_workers  # reading a memory map needs no process of its own
        return self._loaders.make(dataset, workers, **order)

    def _rank(self) -> tuple[int, int]:
        """(rank, world size) of this process."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dataset(self, split: str, training: bool) -> CaptionDataset:
        key = f"{split}, training" if training else split
        if key not in self._datasets:
            images: Sequence[CaptionedImage] = self.source.split(split)
            kept = self.captions_per_image if training else None
            if not len(images):
                raise UserError(f"split '{split}' has no image")
            ids, captions = zip(*captions_of(images), strict=True)
            if len(set(ids)) < len(ids):
                ((id, times),) = Counter(ids).most_common(1)
                raise UserError(
                    f"split '{split}' has image {id} {times} times; a source gives each image once, with "
                    "all its captions"
                )
            self._datasets[key] = CaptionDataset(
                ids=IdTable(ids),
                inputs=self._inputs(images, training),
                tokens=TokenTable((texts[:kept] for texts in captions), self.tokenizer),
                referred=None if training else images,
            )
        return self._datasets[key]

    def _inputs(self, images: Sequence[CaptionedImage], training: bool) -> Inputs:
        if self.features is None:
            transform = self.training_transform if training else self.evaluation_transform
            return PictureInputs(self.source, images, transform, self.seed)
        views = self.feature_views if training else 0
        transform = self.training_transform if views else self.evaluation_transform
        return FeatureInputs(self.features.get(self.source, images, transform, max(1, views)), self.seed)

    def on_exception(self, exception: BaseException) -> None:
        """End all workers.

        Lightning ends those of the loop that the exception came from: in a validation not the training's,
        and each of these would then hold the process up, since nothing tells it that it is no longer needed.
        """
        self._loaders.end()
