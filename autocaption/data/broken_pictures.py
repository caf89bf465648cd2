"""Pictures that cannot be decoded: found before the first step, named, or left out."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from autocaption.data.image_table import ImageTable
from autocaption.data.manifest import Manifest
from autocaption.data.sources import CaptionedImage, Source
from autocaption.errors import UserError

log = logging.getLogger(__name__)


class Broken(NamedTuple):
    """A picture that cannot be decoded, and why."""

    image: CaptionedImage
    error: str


def broken_pictures(source: Source, images: Sequence[CaptionedImage], manifest: Manifest) -> list[Broken]:
    """The images whose files cannot be decoded; those that are known to decode are not tried again."""
    by_path = {image.path: image for image in images if image.path is not None}
    errors = manifest.check(list(by_path), lambda path: source.read(by_path[path]))
    # Several images may have one file, as where a table has a row for each caption and no ids.
    return [Broken(image, errors[path]) for image in images if (path := image.path) and path in errors]


def check_pictures(source: Source, images: Sequence[CaptionedImage], manifest: Manifest) -> None:
    """Decode every picture, so that a broken one is found before the first step.

    Raises:
        UserError: names the first broken picture, and says how many there are.
    """
    broken = broken_pictures(source, images, manifest)
    if broken:
        more = f" ({len(broken) - 1:,} more are broken)" if len(broken) > 1 else ""
        raise UserError(broken[0].error + more)


class WithoutBroken:
    """A source without the pictures that cannot be decoded, which are counted and named.

    Args:
        source: the source.
        manifest: remembers which pictures decode.
    """

    def __init__(self, source: Source, manifest: Manifest) -> None:
        self.source, self.manifest = source, manifest
        self._splits: dict[str, ImageTable] = {}

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split that can be decoded; decodes all of them at the first call."""
        if name not in self._splits:
            images = self.source.split(name)
            broken = {one.image.id: one.error for one in broken_pictures(self.source, images, self.manifest)}
            for error in broken.values():
                log.warning("Data: skipped: %s", error)
            if len(broken) == len(images):
                raise UserError(f"no picture of split '{name}' can be decoded; check data.root")
            if broken:
                log.warning("Data: skipped %d of %d images of split '%s'", len(broken), len(images), name)
            self._splits[name] = ImageTable(name, (image for image in images if image.id not in broken))
        return self._splits[name]

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """The picture, in RGB."""
        return self.source.read(image, least)
