from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2


class Transform(Protocol):
    """Picture to uint8 (3, size, size). Its `repr` is its identity: it names all that it does."""

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """The transformed picture; whatever is left to chance is drawn from the seed."""
        ...


@dataclass(frozen=True)
class CenterCrop:
    """The centre of a picture, `crop` of its shorter side wide; nothing is left to chance."""

    size: int
    crop: float

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """The picture's centre; the seed makes no difference."""
        return v2.functional.center_crop(_resized(picture, self.size, self.crop), [self.size, self.size])


@dataclass(frozen=True)
class RandomCropFlip:
    """Like `CenterCrop`, with the crop's place and a left-right flip drawn from the seed."""

    size: int
    crop: float

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """A random view of the picture."""
        steps = v2.Compose([v2.RandomCrop(self.size), v2.RandomHorizontalFlip()])
        with torch.random.fork_rng(devices=[]):  # v2 draws from the global generator only
            torch.manual_seed(seed)
            return steps(_resized(picture, self.size, self.crop))


def _resized(picture: Image.Image, size: int, crop: float) -> Tensor:
    return v2.functional.resize(v2.functional.pil_to_tensor(picture), [round(size / crop)], antialias=True)
