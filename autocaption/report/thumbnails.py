"""Pictures small enough to stand within a page."""

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from autocaption.machine import cores

T = TypeVar("T")


@dataclass(frozen=True)
class Thumbnail:
    """A picture at its own proportions.

    Attributes:
        url: a data: URL.
        width: pixels; likewise `height`.
        original: width and height of the picture that it was made of.
    """

    url: str
    width: int
    height: int
    original: tuple[int, int]


@dataclass(frozen=True)
class Shrink:
    """Makes thumbnails of about equal area, so that each takes about equally many bytes.

    Args:
        side: the side of a square one, in pixels; smaller pictures keep their size.
        quality: WebP's, 0 to 100.
    """

    side: int
    quality: int

    @property
    def least(self) -> int:
        """The shorter side that is worth decoding."""
        return 2 * self.side

    def __call__(self, picture: Image.Image) -> Thumbnail:
        """The picture's thumbnail."""
        width, height = picture.size
        scale = min(1.0, self.side / (width * height) ** 0.5)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
        data = io.BytesIO()
        small.save(data, "WEBP", quality=self.quality, method=4)
        url = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
        return Thumbnail(url, *size, picture.size)


GALLERY = Shrink(side=164, quality=18)  # about 2 kB of a photograph
LARGE = Shrink(side=288, quality=40)


def thumbnails(
    items: Iterable[T], read: Callable[[T], Image.Image], shrink: Callable[[Image.Image], Thumbnail]
) -> Iterator[Thumbnail]:
    """A thumbnail of each item's picture, in order, made on all cores of this process."""
    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(lambda item: shrink(read(item)), items)
