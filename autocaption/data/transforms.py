"""From pictures to the tensors that an encoder takes.

Legend: C channels, H height, W width.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from autocaption.checks import choice, number
from autocaption.errors import UserError

# A JPEG that is decoded at a fraction of its size keeps this many times the pixels that a transform needs, so
# that it is still shrunk by antialiasing and looks the same.
SPARE = 2
LONGEST = 32  # times its shorter side: so much of a picture is resized where its longer side is cut anyway
Fit = Literal["crop", "squash", "pad"]  # how a picture becomes a square
Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of a picture's width and height


class Transform(Protocol):
    """Picture to uint8 (3, H, W), in any thread; identified by its `repr`, which holds all settings.

    Attributes:
        least: the shorter side of a picture, in pixels, above which more make no difference.
    """

    @property
    def least(self) -> int: ...  # noqa: D102

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """The transformed picture; random choices are drawn from the seed."""
        ...


class View(Transform, Protocol):
    """A Transform that shows every time the same part of a picture, as evaluation needs it.

    Attributes:
        shape: height and width of the transformed picture.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102

    def seen(self, width: int, height: int) -> Box:
        """The part of a picture of so many pixels that the transformed one shows.

        Where it shows more than the picture, as padding, the edges lie beyond 0 and 1.
        """
        ...


@dataclass(frozen=True)
class Square:
    """The centre of a picture that is made square.

    Args:
        size: pixels of a side.
        crop_share: the share of the square's side that is kept.
        fit: `crop` cuts the longer sides, `squash` changes the proportions, `pad` adds to the shorter sides.
        interpolation: of the resizing, which is always antialiased.
        colour: RGB of what `pad` adds, from 0 to 255; the other two have none.
    """

    size: int
    crop_share: float = 1.0
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    colour: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        number("data.crop_share", self.crop_share, above=0, at_most=1)
        choice("data.fit", self.fit, get_args(Fit))
        choice("data.interpolation", self.interpolation, get_args(Interpolation))

    @property
    def least(self) -> int:
        """The shorter side that is worth decoding."""
        return SPARE * self._side

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.size, self.size

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """The centre of the square; the seed is ignored."""
        return self.centre(self.resized(picture))

    def resized(self, picture: Image.Image) -> Tensor:
        """The picture of which the centre is taken; with `crop` its longer side is still longer."""
        picture_CHW, side = v2.functional.pil_to_tensor(picture), self._side
        if self.fit == "crop":
            return self._resize(_middle(picture_CHW), [side])  # the shorter side
        if self.fit == "squash":
            return self._resize(picture_CHW, [side, side])
        longer = max(picture.size)
        height, width = (max(1, round(side * pixels / longer)) for pixels in picture_CHW.shape[1:])
        left, top = (side - width) // 2, (side - height) // 2
        edges = [left, top, side - width - left, side - height - top]
        colour = None if self.colour is None else [float(value) for value in self.colour]
        return v2.functional.pad(self._resize(picture_CHW, [height, width]), edges, fill=colour)

    def centre(self, picture_CHW: Tensor) -> Tensor:
        """The centre of a picture that is at least as large."""
        return v2.functional.center_crop(picture_CHW, [self.size, self.size])

    def seen(self, width: int, height: int) -> Box:
        """The centre, as shares of the picture."""
        share, across, down = self.size / self._side, 1.0, 1.0
        if self.fit != "squash":
            side = (min if self.fit == "crop" else max)(width, height)
            across, down = side / width, side / height
        across, down = share * across, share * down
        return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2

    @property
    def _side(self) -> int:
        return round(self.size / self.crop_share)

    def _resize(self, picture_CHW: Tensor, size: list[int]) -> Tensor:
        mode = InterpolationMode(self.interpolation)
        return v2.functional.resize(picture_CHW, size, interpolation=mode, antialias=True)


def _middle(picture_CHW: Tensor) -> Tensor:
    """A picture without its far ends: resized as a whole, one of 1 x 60,000 pixels would fill the memory."""
    sides = picture_CHW.shape[1:]
    most = LONGEST * min(sides)
    kept = [min(side, most + (side - most) % 2) for side in sides]  # so that both ends lose as much
    return v2.functional.center_crop(picture_CHW, kept)


@dataclass(frozen=True)
class Augmented:
    """Random transforms of torchvision, or any others of a tensor that draw from torch's generator.

    They get pictures as `square` resizes them, before it takes their centre, so that random crops have some
    room. What is larger than the encoder's pictures after them is cut to its centre.

    Args:
        square: makes pictures square.
        settings: says what the transforms are; a different text for different transforms.
        transforms: uint8 (3, H, W) to uint8 (3, H, W), one after the other.

    Raises:
        UserError: the transforms fail, or don't give pictures that an encoder takes.
    """

    square: Square
    settings: str
    transforms: Sequence[Callable[[Tensor], Tensor]] = field(repr=False)

    def __post_init__(self) -> None:
        for size in ((64, 48), (48, 64)):  # now, rather than in the first step, in a worker
            try:
                self(Image.new("RGB", size), seed=0)
            except UserError:
                raise
            except Exception as error:  # each transform fails in its own way
                reason = " ".join(f"{error}".split()) or type(error).__name__
                raise UserError(
                    f"data.augment fails on a picture of {size[0]} x {size[1]}: {reason}"
                ) from error

    @property
    def least(self) -> int:
        """The shorter side that is worth decoding."""
        return self.square.least

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """A random view of the picture."""
        view_CHW = self.square.resized(picture)
        with _drawing_from(seed):
            for transform in self.transforms:
                view_CHW = transform(view_CHW)
        size = self.square.size
        shape = tuple(view_CHW.shape)
        if view_CHW.dtype != torch.uint8 or shape[:-2] != (3,) or min(shape[-2:]) < size:
            given = f"{view_CHW.dtype} of {' x '.join(map(str, shape))}"
            raise UserError(
                f"data.augment gives {given}; the encoder takes uint8 of 3 x {size} x {size}, and normalises "
                "it itself"
            )
        return self.square.centre(view_CHW)


_DRAWING = threading.Lock()  # torch's generator is the process's, and pictures are read by many threads


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Let torch's generator on the CPU draw from a seed, and go on afterwards as if it had not."""
    generator = torch.default_generator  # torch.manual_seed would seed those of the GPUs, too
    with _DRAWING:
        before = generator.get_state()
        generator.manual_seed(seed)
        try:
            yield
        finally:
            generator.set_state(before)
