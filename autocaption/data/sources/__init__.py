from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image and what people wrote of it.

    Attributes:
        id: unique in its data set; `image_id` of captions.json.
        path: the file, or None where the source draws the picture itself.
        split: one of SPLITS.
        captions: as written, untouched.
    """

    id: str
    path: Path | None
    split: str
    captions: tuple[str, ...]


class Source(Protocol):
    """A data set as one on-disk format stores it; all that follows is format-blind."""

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split (one of SPLITS), in an order that never changes."""
        ...

    def read(self, image: CaptionedImage) -> Image.Image:
        """The picture, in RGB; UserError where it can't be read whole."""
        ...
