"""Callbacks that take the generated captions of validation and test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from autocaption.data.sources import CaptionedImage, Source
from autocaption.files import write_json, write_whole
from autocaption.models.captioner import Predictions
from autocaption.report.sheet import sheet


class PredictionCallback(pl.Callback):
    """Collects the captions of a whole split, over all ranks."""

    def __init__(self) -> None:
        self._predictions: list[Predictions] = []

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep a batch's captions."""
        self._predictions.append(outputs)

    on_test_batch_end = on_validation_batch_end

    def collect(self, order: Sequence[str]) -> list[tuple[str, str, tuple[str, ...]]]:
        """(id, caption, references) of every image of every rank, in this order of ids; once an epoch.

        A collective: every rank calls it and gets all of them.
        """
        mine = [triple for predictions in self._predictions for triple in zip(*predictions, strict=True)]
        self._predictions = []
        ranks = [mine]
        if dist.is_available() and dist.is_initialized():
            ranks = [mine] * dist.get_world_size()
            dist.all_gather_object(ranks, mine)
        index = {id: i for i, id in enumerate(order)}
        return sorted((triple for rank in ranks for triple in rank), key=lambda triple: index[triple[0]])


class CaptionWriter(PredictionCallback):
    """Writes generated captions to disk after a test, and logs a W&B table after every validation.

    A test writes `captions.json` (COCO result format) and `samples.png` to the folder.

    Args:
        folder: the run folder.
        samples: number of pictures shown, spread evenly over the split.
    """

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        self.folder, self.samples = Path(folder), samples

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log pictures with generated and reference captions."""
        source, images, captioned = self._collected(trainer, "val")
        loggers = [log for log in trainer.loggers if isinstance(log, pl.loggers.WandbLogger)]
        if not loggers or trainer.sanity_checking or not trainer.is_global_zero:
            return
        import wandb

        rows = [
            [image.id, wandb.Image(source.read(image)), caption, "\n".join(references)]
            for image, (_, caption, references) in self._spread(images, captioned)
        ]
        for logger in loggers:
            logger.log_table("val/captions", columns=["id", "image", "generated", "references"], data=rows)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write captions.json and samples.png."""
        source, images, captioned = self._collected(trainer, "test")
        if not trainer.is_global_zero:
            return
        captions = [{"image_id": id, "caption": caption} for id, caption, _ in captioned]
        write_json(self.folder / "captions.json", captions)
        shown = self._spread(images, captioned)
        page = sheet(
            [source.read(image) for image, _ in shown],
            [caption for _, (_, caption, _) in shown],
            [references for _, (_, _, references) in shown],
        )
        write_whole(self.folder / "samples.png", lambda aside: page.save(aside, format="PNG"))

    def _collected(self, trainer: Any, stage: str) -> tuple[Source, dict[str, CaptionedImage], list]:
        data = trainer.datamodule
        images = {image.id: image for image in data.source.split(data.split_of(stage))}
        return data.source, images, self.collect(list(images))

    def _spread(self, images: dict[str, CaptionedImage], captioned: list) -> list:
        step = max(1, len(captioned) // self.samples)
        return [(images[one[0]], one) for one in captioned[::step][: self.samples]]
