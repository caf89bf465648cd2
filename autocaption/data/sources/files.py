"""Data sets of picture files: recognising a layout, finding its pictures, splits."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from autocaption.data.pictures import MAX_PIXELS, read_image
from autocaption.data.sources import SPLITS, CaptionedImage, ImageId
from autocaption.data.sources.splits import drawn
from autocaption.data.texts import one_line, picture_name
from autocaption.errors import UserError

log = logging.getLogger(__name__)

AUTO = "auto"  # layout=auto: recognise it


@dataclass
class Listing:
    """What the text files of a data set say, before its pictures are looked for.

    Attributes:
        images: all images that are in a split, in order; each path is a folder and a name as written.
        skipped: {what: how many} of what was left out.
        odd: {what: how many} of what was kept and may be a mistake.
        splits: where the splits come from.
    """

    images: list[CaptionedImage]
    skipped: Counter[str] = field(default_factory=Counter)
    splits: str = "its own"
    odd: Counter[str] = field(default_factory=Counter)


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


class FolderContents:
    """Finds files by name, in whichever Unicode normal form they and their names are."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._normal: dict[str, dict[str, str]] = {}

    def find(self, path: Path) -> Path | None:
        """The file at this path, or at one that differs in its normal form only; None where there is none."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            self._names[folder] = _names_in(folder)
        if name in self._names[folder]:
            return path
        if folder not in self._normal:
            self._normal[folder] = {picture_name(name): name for name in self._names[folder]}
        if (other := self._normal[folder].get(picture_name(name))) is not None:
            return Path(folder, other)
        parent = Path(folder)
        if self._names[folder] or parent == parent.parent or str(parent) in ("", "."):
            return None
        # A folder may be in another normal form, too.
        actual = self.find(parent)
        return self.find(actual / name) if actual not in (None, parent) else None


def pictures_in(folder: Path) -> list[Path]:
    """All files below a folder that are named like pictures, sorted."""
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in Image.registered_extensions() and not name.startswith(".")
    )


def gathered(captions: Iterable[tuple[str, str]], skipped: Counter[str]) -> dict[str, tuple[str, ...]]:
    """{name: captions} of (name, caption) in order; blank captions and images without any are counted."""
    found: dict[str, list[str]] = {}
    for name, caption in captions:
        texts = found.setdefault(name, [])
        if caption.strip():
            texts.append(caption)
        else:
            skipped["blank captions"] += 1
    skipped["images without captions"] += sum(not texts for texts in found.values())
    return {name: tuple(texts) for name, texts in found.items() if texts}


def drawn_listing(
    captions: Mapping[str, tuple[str, ...]],
    folder: Path,
    ids: Mapping[str, ImageId],
    sizes: Mapping[str, int],
    seed: int,
    skipped: Counter[str],
) -> Listing:
    """A listing whose splits are drawn; what is over is counted.

    Args:
        captions: of each name of a picture.
        folder: the folder of pictures.
        ids: the id of each name.
        sizes: images of each split.
        seed: of the draw.
        skipped: what was left out so far.
    """
    split_of = drawn([ids[name] for name in captions], sizes, seed)
    images = [
        CaptionedImage(ids[name], folder / name, split_of[ids[name]], texts)
        for name, texts in captions.items()
        if ids[name] in split_of
    ]
    skipped["images that are in no split"] += len(captions) - len(images)
    return Listing(images, skipped, f"drawn with seed {seed}")


def stems(names: Iterable[str], file: Path) -> dict[str, ImageId]:
    """{name: id}, where an id is the name without its extension.

    Raises:
        UserError: two names have the same id.
    """
    ids: dict[str, ImageId] = {}
    names_of: dict[str, str] = {}
    for name in names:
        stem = Path(name).stem
        if stem in names_of:
            raise UserError(
                f"{file} names {one_line(names_of[stem])} and {one_line(name)}, which would have the same id"
            )
        names_of[stem] = name
        ids[name] = stem
    return ids


def _names_in(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or "."))
    except (OSError, ValueError):
        return set()


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
