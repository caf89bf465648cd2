"""The Python API: captions of pictures in three lines.

import autocaption

model = autocaption.load("runs/RUN/checkpoints/best.ckpt")
print(model.caption("dog.jpg")[0].text)
"""

import os

import torch

from autocaption.inference.caption_model import CaptionModel, Prepared
from autocaption.inference.captions import Caption
from autocaption.models.captioner import Captioner
from autocaption.models.word_maps import WordMaps
from autocaption.precision import device_of
from autocaption.runs import checkpoint

__all__ = ["Caption", "CaptionModel", "Captioner", "Prepared", "WordMaps", "load"]


def load(
    path: str | os.PathLike[str], device: str | torch.device = "auto", precision: str | None = None
) -> CaptionModel:
    """The model of a checkpoint, ready to caption pictures.

    A checkpoint is enough: it carries its vocabulary, its preprocessing and its configuration.

    Args:
        path: a file of a run's checkpoints/, or an export's folder.
        device: `auto` for the first GPU where there is one, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: None or `32-true`, `bf16-mixed`, `16-mixed`, as for the Trainer; `auto` for the fastest
            that the device is made for.

    Raises:
        UserError: the file is missing, damaged, or no checkpoint of autocaption; or there is no such device.
    """
    return CaptionModel(checkpoint.load(path), device_of(device), precision)
