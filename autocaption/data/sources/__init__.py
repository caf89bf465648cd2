"""What a data set yields, whatever its format on disk."""

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

SPLITS = ("train", "val", "test")
ImageId = str | int  # an integer where the data set's own tools take integers (COCO)


class PictureFile(Hashable, Protocol):
    """What holds a picture: a Path, or a part of a file that has these methods of a Path.

    Its `str` names it in messages, and is unique.
    """

    @property
    def suffix(self) -> str:
        """What its name ends in, with the dot; empty for a picture without a name."""
        ...

    def read_bytes(self) -> bytes:
        """The encoded picture; OSError where it cannot be read."""
        ...

    def stat(self) -> os.stat_result:
        """Of the file that holds it: while size and modification time stay, so does the picture."""
        ...


class FileName(str):
    """A file as a PictureFile, made in a tenth of the time of a Path; for data sets of a hundred thousand."""

    __slots__ = ()

    @property
    def suffix(self) -> str:
        """As of a Path."""
        return os.path.splitext(self)[1]

    def read_bytes(self) -> bytes:
        """The file's content."""
        with open(self, "rb") as file:
            return file.read()

    def stat(self) -> os.stat_result:
        """Of the file."""
        return os.stat(self)


WHOLE_FILES = (FileName, Path)  # the PictureFiles that a name is enough for


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image and its captions.

    Attributes:
        id: unique in the data set; `image_id` in captions.json.
        path: what holds the picture, or None where it is drawn.
        split: one of SPLITS.
        captions: as written, untouched.
    """

    id: ImageId
    path: PictureFile | None
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
