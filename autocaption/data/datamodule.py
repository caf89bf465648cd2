import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from autocaption.data.dataset import CaptionDataset
from autocaption.data.samplers import EvaluationSampler, TrainingSampler
from autocaption.data.source import CaptionedImage, Source
from autocaption.data.token_table import TokenTable
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import Transform
from autocaption.progress import track


class CaptionDataModule(pl.LightningDataModule):
    """Batches of images with all their captions, for Lightning's Trainer.

    Args:
        source: the data set.
        tokenizer: with its vocabulary.
        training_transform: picture and seed to uint8 (3, H, W); likewise `evaluation_transform`.
        batch_size: images a step and device; each brings all its captions.
        num_workers: processes that read and transform pictures; 0 for none.
        seed: of order and augmentation.
        split: what `test_dataloader` reads.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        training_transform: Transform,
        evaluation_transform: Transform,
        batch_size: int,
        num_workers: int,
        seed: int,
        split: str = "test",
    ) -> None:
        super().__init__()
        self.source, self.tokenizer = source, tokenizer
        self.training_transform, self.evaluation_transform = training_transform, evaluation_transform
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed, self.test_split = seed, split
        self._datasets: dict[str, CaptionDataset] = {}

    def split_of(self, stage: str) -> str:
        """The split that a stage of the Trainer (train, val, test) reads."""
        return self.test_split if stage == "test" else stage

    def check(self, splits: Iterable[str]) -> None:
        """Decode every picture of these splits, so that a broken one is found before the first step.

        Raises:
            UserError: names the first broken picture.
        """
        images = [image for split in splits for image in self.source.split(split) if image.path is not None]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = [pool.submit(self._decode, image) for image in images]
            try:
                for future in track(futures, "Checking images", len(futures)):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _decode(self, image: CaptionedImage) -> None:
        self.source.read(image)

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch); every rank gets equally many images."""
        dataset = self._dataset("train", training=True)
        return self._loader(dataset, TrainingSampler(len(dataset), self.seed, *self._place()))

    def val_dataloader(self) -> DataLoader:
        """The val split, each image once over all ranks."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        """The split named by `split`, each image once over all ranks."""
        return self._evaluation_loader(self.split_of("test"))

    def _evaluation_loader(self, split: str) -> DataLoader:
        dataset = self._dataset(split, training=False)
        return self._loader(dataset, EvaluationSampler(len(dataset), *self._place()))

    def _place(self) -> tuple[int, int]:
        """(rank, number of ranks) of this process."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dataset(self, split: str, training: bool) -> CaptionDataset:
        key = f"{split}, training" if training else split
        if key not in self._datasets:
            images: Sequence[CaptionedImage] = self.source.split(split)
            captions = [image.captions for image in images]
            self._datasets[key] = CaptionDataset(
                source=self.source,
                images=images,
                tokens=TokenTable(captions, self.tokenizer),
                references=None if training else [tuple(map(self.tokenizer.normalize, c)) for c in captions],
                transform=self.training_transform if training else self.evaluation_transform,
                seed=self.seed,
            )
        return self._datasets[key]

    def _loader(self, dataset: CaptionDataset, sampler: Sampler) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=dataset.collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )
