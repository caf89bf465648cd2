"""A data set whose images a listing names, whatever the listing was read from."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from autocaption.data.image_table import ImageTable
from autocaption.data.pictures import MAX_PIXELS, read_image
from autocaption.data.sources import SPLITS, WHOLE_FILES, CaptionedImage
from autocaption.data.sources.listing import Listing
from autocaption.data.texts import printable
from autocaption.errors import UserError
from autocaption.machine import without_collection

log = logging.getLogger(__name__)


class ListedSource:
    """The images of a listing, which is read when they are first asked for, and said in one log line.

    Args:
        name: of the data set, for messages.
        root: what holds it.
        layout: what it was recognised as, for the log line.
        listing: reads the listing.
        max_pixels: a picture of more pixels is refused.
        present: (split, its images) to those whose files are there; None where all must be.
    """

    def __init__(
        self,
        name: str,
        root: Path | str,
        layout: str,
        listing: Callable[[], Listing],
        max_pixels: int = MAX_PIXELS,
        present: Callable[[str, Sequence[CaptionedImage]], list[CaptionedImage]] | None = None,
    ) -> None:
        self.name, self.root, self.layout, self.max_pixels = name, root, layout, max_pixels
        self._read_listing, self._present = listing, present
        self._listed: dict[str, list[CaptionedImage]] | None = None
        self._splits: dict[str, ImageTable] = {}

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split, in the order of the data set's files.

        Raises:
            UserError: the split is unknown or empty, a file cannot be read, or a picture is missing.
        """
        if name not in SPLITS:
            raise UserError(f"no split '{name}' in {self.name}; take one of: {', '.join(SPLITS)}")
        if name not in self._splits:
            with without_collection():
                if self._listed is None:
                    self._listed = self._by_split()
                images = self._listed[name]
                if not images:
                    raise UserError(f"split '{name}' of {self.name} in {self.root} has no image")
                present = self._present(name, images) if self._present else images
                self._splits[name] = ImageTable(name, present)
                del self._listed[name]
        return self._splits[name]

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """The picture, in RGB; UserError where it cannot be decoded."""
        assert image.path is not None
        return read_image(image.path, least, self.max_pixels)

    def _by_split(self) -> dict[str, list[CaptionedImage]]:
        """The listing's images, before it is known which files are there."""
        listing = self._read_listing()
        images: dict[str, list[CaptionedImage]] = {split: [] for split in SPLITS}
        before: dict[object, str] = {}
        for image in listing.images:
            images[image.split].append(image)
            # As of rows of a table that have no common id, or of names with and without the folder.
            if (
                isinstance(image.path, WHOLE_FILES)
                and before.setdefault(image.path, image.split) != image.split
            ):
                raise UserError(
                    f"{printable(image.path)} is in split '{image.split}', and as another image in "
                    f"'{before[image.path]}'; a picture is in one: give all its captions one name or id"
                )
        said = ", ".join(f"{split} {len(some):,}" for split, some in images.items())
        notes = [f"skipped {count:,} {what}" for what, count in listing.skipped.items() if count]
        notes += [f"{count:,} {what}" for what, count in listing.odd.items() if count]
        log.info(
            "Data: %s, %s; splits: %s; images: %s",
            *(self.name, self.layout, listing.splits, "; ".join([said, *notes])),
        )
        return images
