"""Callbacks that use the captions generated in validation and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytorch_lightning as pl
import torch.distributed as dist

from autocaption.checks import whole
from autocaption.data.sources import CaptionedImage, ImageId, Source
from autocaption.files import write_json, write_whole
from autocaption.models.captioner import Predictions
from autocaption.report.sheet import sheet


class Prediction(NamedTuple):
    """An image's generated caption."""

    id: ImageId
    caption: str
    references: tuple[str, ...]


T = TypeVar("T")


def from_all_ranks(own: T) -> list[T]:
    """What each rank passed, the first one's first; a collective, so that every rank must call it."""
    ranks = [own]
    if dist.is_available() and dist.is_initialized():
        ranks = [own] * dist.get_world_size()
        dist.all_gather_object(ranks, own)
    return ranks


class PredictionCallback(pl.Callback):
    """Collects the generated captions of a whole split from all ranks."""

    def __init__(self) -> None:
        self._batches: list[Predictions] = []

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep a batch's captions."""
        self._batches.append(outputs._replace(tokens_BT=None, memory=None))

    on_test_batch_end = on_validation_batch_end

    def collect(self, order: Sequence[ImageId]) -> list[Prediction]:
        """All predictions since the last call, from all ranks, ordered like these image ids.

        A collective: every rank must call it, and every rank gets everything.
        """
        own = [
            Prediction(*triple)
            for batch in self._batches
            for triple in zip(batch.ids, batch.captions, batch.references, strict=True)
        ]
        self._batches = []
        position = {id: i for i, id in enumerate(order)}
        everything = (prediction for rank in from_all_ranks(own) for prediction in rank)
        return sorted(everything, key=lambda prediction: position[prediction.id])


class CaptionWriter(PredictionCallback):
    """Writes a test's captions to disk, and logs a W&B table after each validation.

    A test leaves `captions.json` (COCO result format) and `samples.png` in the folder.

    Args:
        folder: the run folder.
        samples: the number of images in the table and the picture, spread evenly over the split.

    Raises:
        UserError: `samples` is below 1.
    """

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        self.folder, self.samples = Path(folder), whole("callbacks.captions.samples", samples, 1)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log images with their generated and reference captions."""
        source, images, predictions = self._collected(trainer, "val")
        loggers = [logger for logger in trainer.loggers if isinstance(logger, pl.loggers.WandbLogger)]
        if not loggers or trainer.sanity_checking or not trainer.is_global_zero:
            return
        import wandb

        rows = [
            [one.id, wandb.Image(source.read(images[one.id])), one.caption, "\n".join(one.references)]
            for one in self._spread(predictions)
        ]
        for logger in loggers:
            logger.log_table("val/captions", columns=["id", "image", "generated", "references"], data=rows)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write captions.json and samples.png."""
        source, images, predictions = self._collected(trainer, "test")
        if not trainer.is_global_zero:
            return
        captions = [{"image_id": one.id, "caption": one.caption} for one in predictions]
        write_json(self.folder / "captions.json", captions)
        shown = self._spread(predictions)
        page = sheet(
            [source.read(images[one.id]) for one in shown],
            [one.caption for one in shown],
            [one.references for one in shown],
        )
        write_whole(self.folder / "samples.png", lambda aside: page.save(aside, format="PNG"))

    def _collected(
        self, trainer: Any, stage: str
    ) -> tuple[Source, Mapping[ImageId, CaptionedImage], list[Prediction]]:
        data = trainer.datamodule
        images = {image.id: image for image in data.source.split(data.split_of(stage))}
        return data.source, images, self.collect(list(images))

    def _spread(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        step = max(1, len(predictions) // self.samples)
        return predictions[::step][: self.samples]
