"""What the text files of a data set say, and the picture files that they name."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from autocaption.data.sources import CaptionedImage, ImageId
from autocaption.data.sources.splits import drawn, held_out_sizes
from autocaption.data.texts import picture_name, printable
from autocaption.errors import UserError
from autocaption.files import files_below


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


class FolderContents:
    """Finds files by name, in whichever Unicode normal form they and their names are."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._normal: dict[str, dict[str, str]] = {}

    def find(self, file: str) -> str | None:
        """The file of this name, or of one that differs in its normal form only; None where there is none."""
        start = file.rfind(os.sep) + 1
        folder, name = file[:start], file[start:]
        if folder not in self._names:
            self._names[folder] = _names_in(folder)
        if name in self._names[folder]:
            return file
        if folder not in self._normal:
            self._normal[folder] = {picture_name(name): name for name in self._names[folder]}
        if (other := self._normal[folder].get(picture_name(name))) is not None:
            return folder + other
        parent = folder.rstrip(os.sep)
        if self._names[folder] or not parent:
            return None
        # A folder may be in another normal form, too.
        actual = self.find(parent)
        return self.find(os.path.join(actual, name)) if actual not in (None, parent) else None


def pictures_in(folder: Path) -> list[Path]:
    """All files below a folder that are named like pictures, sorted."""
    endings = Image.registered_extensions()
    return sorted(
        path
        for path in files_below(folder)
        if path.suffix.lower() in endings and not path.name.startswith(".")
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


def required(captions: Mapping[str, tuple[str, ...]], file: Path) -> Mapping[str, tuple[str, ...]]:
    """The captions of a file.

    Raises:
        UserError: there are none.
    """
    if not captions:
        raise UserError(f"no captions in {file}: the file is empty; restore the original")
    return captions


def without_captions(folder: Path, captions: Mapping[str, tuple[str, ...]]) -> int:
    """How many pictures of a folder have no captions."""
    return len({picture_name(path.name) for path in pictures_in(folder)} - captions.keys())


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
    split_of = _drawn([ids[name] for name in captions], sizes, seed, skipped)
    images = [
        CaptionedImage(ids[name], folder / name, split_of[ids[name]], texts)
        for name, texts in captions.items()
        if ids[name] in split_of
    ]
    skipped["images that are in no split"] += len(captions) - len(images)
    return Listing(images, skipped, f"drawn with seed {seed}")


def divided(
    images: Sequence[CaptionedImage],
    given: Collection[str],
    held_out: Mapping[str, float],
    seed: int,
    skipped: Counter[str],
) -> Listing:
    """A listing whose val and test are drawn from its training images, unless they are given.

    Args:
        images: all images; their ids are unique.
        given: the splits that the data set has.
        held_out: images of val and test: a share (below 1) or a number.
        seed: of the draw.
        skipped: what was left out so far.
    """
    missing = {split: size for split, size in held_out.items() if split not in given}
    if not missing:
        return Listing(list(images), skipped)
    training = [image.id for image in images if image.split == "train"]
    split_of = _drawn(training, held_out_sizes(len(training), missing), seed, skipped)
    drawn_images = [replace(image, split=split_of.get(image.id, image.split)) for image in images]
    return Listing(drawn_images, skipped, f"{' and '.join(missing)} drawn from train with seed {seed}")


def _drawn(
    ids: Sequence[ImageId], sizes: Mapping[str, int], seed: int, skipped: Counter[str]
) -> dict[ImageId, str]:
    """`drawn`, where what was left out before may be why there are too few images."""
    try:
        return drawn(ids, sizes, seed)
    except UserError as error:
        left_out = ", ".join(f"{count:,} {what}" for what, count in skipped.items() if count)
        raise UserError(f"{error}; skipped {left_out}" if left_out else str(error)) from None


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
                f"{file} names {printable(names_of[stem])} and {printable(name)}, which would have "
                "the same id"
            )
        names_of[stem] = name
        ids[name] = stem
    return ids


def _names_in(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or "."))
    except (OSError, ValueError):
        return set()
