"""Several transforms of one picture, below one another in one tensor.

Legend: C channels, H height, W width.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch.nn.functional as F
from PIL import Image
from torch import Tensor, cat

from autocaption.data.transforms import Box, Transform

Kind = TypeVar("Kind", bound=Transform)


@dataclass(frozen=True)
class Stacked(Generic[Kind]):
    """A picture as each of several encoders wants it.

    So it is read once, and a batch is one tensor whatever the encoders' sizes are.

    Args:
        transforms: one for each encoder, from top to bottom; narrower ones get zeros on their right.
    """

    transforms: tuple[Kind, ...]

    @property
    def least(self) -> int:
        """The shorter side that is worth decoding."""
        return max(transform.least for transform in self.transforms)

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """All transformed pictures; random choices are drawn from the same seed for each."""
        views = [transform(picture, seed) for transform in self.transforms]
        width = max(view_CHW.shape[2] for view_CHW in views)
        return cat([F.pad(view_CHW, (0, width - view_CHW.shape[2])) for view_CHW in views], 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of all together."""
        heights, widths = zip(*self._shapes(), strict=True)
        return sum(heights), max(widths)

    def window(self, transform: Kind) -> tuple[slice, slice]:
        """Where the result of one of the transforms lies: its rows and columns."""
        place = self.transforms.index(transform)
        shapes = self._shapes()
        top = sum(height for height, _ in shapes[:place])
        height, width = shapes[place]
        return slice(top, top + height), slice(width)

    def _shapes(self) -> list[tuple[int, int]]:
        return [one.shape for one in self.transforms]  # type: ignore[attr-defined]

    def seen(self, width: int, height: int) -> Box:
        """What the first shows of a picture."""
        return self.transforms[0].seen(width, height)  # type: ignore[attr-defined]
