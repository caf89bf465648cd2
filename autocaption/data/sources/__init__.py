"""What a data set yields, whatever its format on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

SPLITS = ("train", "val", "test")
ImageId = str | int  # an integer where the data set's own tools take integers (COCO)


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image and its captions.

    Attributes:
        id: unique in the data set; `image_id` in captions.json.
        path: the picture's file, or None where it has none of its own.
        split: one of SPLITS.
        captions: as written, untouched.
    """

    id: ImageId
    path: Path | None
    split: str
    captions: tuple[str, ...]


class Source(Protocol):
    """A data set in one format on disk; whatever follows knows no format."""

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split (one of SPLITS), in a fixed order."""
        ...

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """The picture, in RGB; UserError where it cannot be decoded.

        Args:
            image: an image of this source.
            least: a side in pixels; a larger picture may be decoded at a fraction of its size, but with no
                side shorter than this.
        """
        ...
