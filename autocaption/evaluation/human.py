"""The human row: how well one person's caption agrees with those of the others."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from autocaption.data.sources import CaptionedImage, ImageId, Source
from autocaption.errors import UserError

NOTE = "the captions of each image but its first, which the human row is (human=true)"


class WithoutFirst:
    """A source whose images, in one split, lack their first caption.

    A system that is compared with that caption must not be scored against it: more references give higher
    scores, and so would the caption itself.

    Args:
        source: the source.
        name: the split.

    Raises:
        UserError: an image of the split has one caption only.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name
        images = source.split(name)
        single = [image.id for image in images if len(image.captions) < 2]
        if single:
            raise UserError(
                f"human=true scores an image's first caption against its others, and {len(single):,} of the "
                f"{len(images):,} images of split '{name}' have one caption only, first {single[0]}"
            )
        self.first: dict[ImageId, str] = {image.id: image.captions[0] for image in images}
        self._images = [replace(image, captions=image.captions[1:]) for image in images]

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split."""
        return self._images if name == self.name else self.source.split(name)

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """The picture, in RGB."""
        return self.source.read(image, least)
