"""From pictures to the tensors that an encoder takes."""

import random
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from autocaption.checks import number

# A JPEG that is decoded at a fraction of its size keeps this many times the pixels that a transform needs, so
# that it is still shrunk by antialiasing and looks the same.
SPARE = 2
Fit = Literal["crop", "squash", "pad"]  # how a picture becomes a square
Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of a picture's width and height


class Transform(Protocol):
    """Picture to uint8 (3, size, size), in any thread; identified by its `repr`, which holds all settings.

    Attributes:
        least: the shorter side of a picture, in pixels, above which more make no difference.
    """

    @property
    def least(self) -> int: ...  # noqa: D102

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """The transformed picture; random choices are drawn from the seed."""
        ...


class View(Transform, Protocol):
    """A Transform that shows every time the same part of a picture, as evaluation needs it."""

    def seen(self, width: int, height: int) -> Box:
        """The part of a picture of so many pixels that the transformed one shows."""
        ...


@dataclass(frozen=True)
class CenterCrop:
    """The centre of a picture, `crop` of its shorter side wide."""

    size: int
    crop: float

    def __post_init__(self) -> None:
        number("data.crop", self.crop, above=0, at_most=1)

    @property
    def least(self) -> int:
        """The shorter side that is worth decoding."""
        return SPARE * round(self.size / self.crop)

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """The picture's centre; the seed is ignored."""
        return v2.functional.center_crop(_resized(picture, self.size, self.crop), [self.size, self.size])

    def seen(self, width: int, height: int) -> Box:
        """The centre, as shares of the picture."""
        side = self.crop * min(width, height)
        across, down = side / width, side / height
        return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


@dataclass(frozen=True)
class RandomCropFlip:
    """A crop of the same size at a random position, flipped left to right half of the time."""

    size: int
    crop: float

    def __post_init__(self) -> None:
        number("data.augment_crop", self.crop, above=0, at_most=1)

    @property
    def least(self) -> int:
        """The shorter side that is worth decoding."""
        return SPARE * round(self.size / self.crop)

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """A random view of the picture."""
        draw = random.Random(seed)  # v2's own random transforms draw from torch's global generator
        picture_CHW = _resized(picture, self.size, self.crop)
        *_, height, width = picture_CHW.shape
        top, left = draw.randint(0, height - self.size), draw.randint(0, width - self.size)
        view_CHW = v2.functional.crop(picture_CHW, top, left, self.size, self.size)
        return v2.functional.horizontal_flip(view_CHW) if draw.random() < 0.5 else view_CHW


def _resized(picture: Image.Image, size: int, crop: float) -> Tensor:
    return v2.functional.resize(v2.functional.pil_to_tensor(picture), [round(size / crop)], antialias=True)
