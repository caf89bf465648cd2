"""Data sets of picture files: recognising a layout, finding its pictures, splits."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from autocaption.checks import as_path
from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import WHOLE_FILES, CaptionedImage, FileName
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import FolderContents, Listing
from autocaption.data.texts import printable
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


def file_source(
    name: str,
    root: str,
    layouts: Sequence[Layout],
    layout: str = AUTO,
    max_pixels: int = MAX_PIXELS,
    on_broken: str = "stop",
) -> ListedSource:
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
    base = as_path("data.root", root)
    found, text, pictures = _recognised(name, base, layouts, layout)
    return ListedSource(
        name,
        base,
        f"layout {found.name}, {printable(text)}",
        functools.partial(found.read, text, pictures),
        max_pixels,
        functools.partial(present, on_broken),
    )


def present(on_broken: str, split: str, images: Sequence[CaptionedImage]) -> list[CaptionedImage]:
    """The images with the paths of their files, whose names may be normalised otherwise.

    Args:
        on_broken: `stop` where a file is missing, or `skip` it.
        split: of the images.
        images: those whose path is no file of its own are taken to be there.
    """
    folders = FolderContents()
    found, missing = [], []
    for image in images:
        if not isinstance(image.path, WHOLE_FILES):
            found.append(image)
            continue
        name = str(image.path)
        actual = folders.find(name)
        if actual is None:
            missing.append(image)
        else:
            found.append(image if actual == name else replace(image, path=FileName(actual)))
    if missing and (on_broken == "stop" or not found):
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise UserError(
            f"image of split '{split}' is missing: {printable(missing[0].path, 1000)}{more}; restore "
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
        raise UserError(f"{root} holds no captions of {name}; looked for ({looked_for}); check data.root")
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
