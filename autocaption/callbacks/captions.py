from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from autocaption.callbacks.predictions import PredictionCallback
from autocaption.data.source import CaptionedImage, Source
from autocaption.files import write_json, write_whole
from autocaption.report.sheet import sheet


class CaptionWriter(PredictionCallback):
    """Keeps what the model says: on disk after a test, as a W&B table after every validation.

    A test leaves `captions.json` (COCO result format) and `samples.png` in the folder.

    Args:
        folder: of the run.
        samples: pictures shown, spread evenly over the split.
    """

    def __init__(self, folder: str, samples: int) -> None:
        super().__init__()
        self.folder, self.samples = Path(folder), samples

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log pictures with generated and reference captions."""
        source, images, said = self._gather(trainer, "val")
        loggers = [log for log in trainer.loggers if isinstance(log, pl.loggers.WandbLogger)]
        if not loggers or trainer.sanity_checking or not trainer.is_global_zero:
            return
        import wandb

        rows = [
            [image.id, wandb.Image(source.read(image)), caption, "\n".join(references)]
            for image, (_, caption, references) in self._spread(images, said)
        ]
        for logger in loggers:
            logger.log_table("val/captions", columns=["id", "image", "generated", "references"], data=rows)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write captions.json and samples.png."""
        source, images, said = self._gather(trainer, "test")
        if not trainer.is_global_zero:
            return
        captions = [{"image_id": id, "caption": caption} for id, caption, _ in said]
        write_json(self.folder / "captions.json", captions)
        shown = self._spread(images, said)
        page = sheet(
            [source.read(image) for image, _ in shown],
            [caption for _, (_, caption, _) in shown],
            [references for _, (_, _, references) in shown],
        )
        write_whole(self.folder / "samples.png", lambda aside: page.save(aside, format="PNG"))

    def _gather(self, trainer: Any, stage: str) -> tuple[Source, dict[str, CaptionedImage], list]:
        data = trainer.datamodule
        images = {image.id: image for image in data.source.split(data.split_of(stage))}
        return data.source, images, self.collect(list(images))

    def _spread(self, images: dict[str, CaptionedImage], said: list) -> list:
        step = max(1, len(said) // self.samples)
        return [(images[one[0]], one) for one in said[::step][: self.samples]]
