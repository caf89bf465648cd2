"""Data sets of picture files: recognising a layout, finding its pictures, splits."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from autocaption.data.pictures import MAX_PIXELS, read_image
from autocaption.data.sources import SPLITS, CaptionedImage
from autocaption.data.sources.listing import FolderContents, Listing
from autocaption.data.texts import one_line
from autocaption.errors import UserError

log = logging.getLogger(__name__)

AUTO = "auto"  # layout=auto: recognise it


class Layout(NamedTuple):
    """How a data set may lie on disk.

    Attributes:
        name: as `data.layout` names it.
        texts: alternatives of the text file that marks it, relative to the root.
        pictures: alternatives of the folder of pictures.
        read: (text file, folder of pictures) to Listing.
    """

    name: str
    texts: tuple[str, ...]
    pictures: tuple[str, ...]
    read: Callable[[Path, Path], Listing]


class FileSource:
    """A data set of picture files, in one of several layouts.

    Args:
        name: of the data set, for messages.
        root: the folder that holds it.
        layouts: those to look for.
        layout: the name of one of them, or `auto`.
        max_pixels: a picture of more pixels is refused.
        on_broken: `stop` where a picture is missing, or `skip` it.

    Raises:
        UserError: no layout is found, or several are; says what was looked for.
    """

    def __init__(
        self,
        name: str,
        root: str,
        layouts: Sequence[Layout],
        layout: str = AUTO,
        max_pixels: int = MAX_PIXELS,
        on_broken: str = "stop",
    ) -> None:
        self.name, self.root, self.max_pixels, self.on_broken = (
            name,
            Path(root).expanduser(),
            max_pixels,
            on_broken,
        )
        self.layout, self.text, self.pictures = _recognised(name, self.root, layouts, layout)
        self._listing: Listing | None = None
        self._splits: dict[str, list[CaptionedImage]] = {}

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split, in the order of the data set's files.

        Raises:
            UserError: the split is unknown or empty, a file cannot be read, or a picture is missing.
        """
        if name not in SPLITS:
            raise UserError(f"no split '{name}' in {self.name}; take one of: {', '.join(SPLITS)}")
        if name not in self._splits:
            images = [image for image in self._listed().images if image.split == name]
            if not images:
                raise UserError(f"split '{name}' of {self.name} in {self.root} has no image")
            self._splits[name] = self._present(name, images)
        return self._splits[name]

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """The picture, in RGB; UserError where it cannot be decoded."""
        assert image.path is not None
        return read_image(image.path, least, self.max_pixels)

    def _listed(self) -> Listing:
        if self._listing is None:
            listing = self._listing = self.layout.read(self.text, self.pictures)
            counts = Counter(image.split for image in listing.images)
            said = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS)
            notes = [f"skipped {count:,} {what}" for what, count in listing.skipped.items() if count]
            notes += [f"{count:,} {what}" for what, count in listing.odd.items() if count]
            log.info(
                "Data: %s, layout %s, %s; splits: %s; images: %s",
                *(self.name, self.layout.name, one_line(self.text), listing.splits),
                "; ".join([said, *notes]),
            )
        return self._listing

    def _present(self, split: str, images: Sequence[CaptionedImage]) -> list[CaptionedImage]:
        """The images with the paths of their files, whose names may be normalised otherwise."""
        folders = FolderContents()
        found, missing = [], []
        for image in images:
            assert image.path is not None
            path = folders.find(image.path)
            if path is None:
                missing.append(image)
            else:
                found.append(image if path == image.path else replace(image, path=path))
        if missing and (self.on_broken == "stop" or not found):
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise UserError(
                f"image of split '{split}' is missing: {one_line(missing[0].path, 1000)}{more}; restore "
                "it, or leave it out with data.on_broken=skip"
            )
        if missing:
            log.warning("Data: skipped %d images of split '%s' whose files are missing", len(missing), split)
        return found


def _recognised(name: str, root: Path, layouts: Sequence[Layout], chosen: str) -> tuple[Layout, Path, Path]:
    """(layout, its text file, its folder of pictures)."""
    if chosen != AUTO:
        names = [layout.name for layout in layouts]
        if chosen not in names:
            raise UserError(
                f"data.layout={chosen}: {name} is read in the layouts {', '.join(names)}, or auto"
            )
        layouts = [layout for layout in layouts if layout.name == chosen]
    looked_for = "; ".join(f"{one.name}: {' or '.join(one.texts)}" for one in layouts)
    if not root.is_dir():
        raise UserError(
            f"folder not found: {root}; data.root must name the folder of {name}, which is recognised by "
            f"({looked_for})"
        )
    found = [(layout, text) for layout in layouts if (text := _first(root, layout.texts))]
    if not found:
        raise UserError(f"no {name} in {root}; looked for ({looked_for}); check data.root")
    if len(found) > 1:
        both = ", ".join(f"{layout.name} ({text.name})" for layout, text in found)
        raise UserError(f"{root} holds {name} in several layouts: {both}; choose one with data.layout=NAME")
    layout, text = found[0]
    folder = _first(root, layout.pictures)
    if folder is None or not folder.is_dir():
        tried = ", ".join(str(root / one) for one in layout.pictures)
        raise UserError(f"no pictures of {name} for {text}; looked for {tried}; check data.root")
    return layout, text, folder


def _first(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).exists()), None)
