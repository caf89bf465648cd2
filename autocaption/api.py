"""The Python API: `from autocaption import load`."""

from pathlib import Path

from autocaption import build
from autocaption.models.captioner import Captioner
from autocaption.runs import checkpoint

__all__ = ["Captioner", "load"]


def load(path: str | Path) -> Captioner:
    """The model of a checkpoint, in eval mode on the CPU.

    A checkpoint is enough: it carries its vocabulary, its preprocessing and its configuration.

        captioner = load("runs/RUN/checkpoints/best.ckpt")
        captions = captioner.caption(captioner.encoder(images_BCHW))

    where `images_BCHW` is uint8 RGB of `captioner.encoder.image_size` pixels a side.

    Args:
        path: a file of a run's checkpoints/.

    Raises:
        UserError: the file is missing, damaged, or no checkpoint of autocaption.
    """
    captioner, *_ = build.for_pictures(checkpoint.load(path))
    return captioner
