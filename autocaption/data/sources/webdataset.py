"""Tar archives of pictures and captions that share a name, as WebDataset and img2dataset write them."""

import functools
import glob
import itertools
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from autocaption.checks import as_path, require_keys
from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import SPLITS, CaptionedImage
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import Listing, divided
from autocaption.data.texts import decoded, parsed_json, printable
from autocaption.errors import UserError

BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file within a tar archive, read by its place: processes share neither file handles nor an index.

    Attributes:
        archive: the tar file.
        name: of the member.
        start: first byte of its content.
        size: bytes of its content.
    """

    archive: Path
    name: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{printable(self.name)}"

    @property
    def suffix(self) -> str:
        """What its name ends in."""
        return PurePosixPath(self.name).suffix

    def read_bytes(self) -> bytes:
        """Its content."""
        with open(self.archive, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def stat(self) -> os.stat_result:
        """Of the archive."""
        return self.archive.stat()


def webdataset(
    root: str,
    splits: Mapping[str, str],
    caption: str = "caption",
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> ListedSource:
    """Uncompressed tar archives in which a picture and its captions share a name up to its first dot.

    The captions are the lines of `NAME.txt`, or else a value of `NAME.json`: a text or a list of texts. An
    image's id is NAME.

    Args:
        root: the folder of the archives.
        splits: a glob of the archives of train, val and test, relative to the root; val and test are drawn
            from train where theirs is None, or no archive matches its default.
        caption: the key of the captions in a JSON member.
        val: images of this split where it is drawn: a share of all (below 1) or a number.
        test: likewise.
        seed: of the draw.
        max_pixels: a picture of more pixels is refused.

    Raises:
        UserError: no archive matches; or later, an archive is damaged or holds no captions.
    """
    folder = as_path("data.root", root)
    require_keys("data.splits", splits, SPLITS)
    archives = {split: _matching(folder, splits[split]) for split in SPLITS if splits.get(split)}
    if not archives.get("train"):
        raise UserError(
            f"no archive {folder / str(splits.get('train'))}; data.root names the folder of the .tar files, "
            "and data.splits.train=GLOB those of the training images"
        )
    for split, paths in archives.items():
        if not paths and splits[split] != f"*{split}*.tar":  # its default, of data sets with such archives
            raise UserError(
                f"no archive {folder / splits[split]}; correct data.splits.{split}, or let {split} be drawn "
                f"from train with data.splits.{split}=null"
            )
    several = [path for path, count in Counter(itertools.chain(*archives.values())).items() if count > 1]
    if several:
        raise UserError(f"{several[0]} matches the globs of two splits in data.splits; an image is in one")
    said = f"{sum(map(len, archives.values())):,} archives"
    held_out = {"val": val, "test": test}
    listing = functools.partial(_listing, archives, caption, held_out, seed)
    return ListedSource("webdataset", folder, said, listing, max_pixels)


def _matching(folder: Path, pattern: str) -> list[Path]:
    found = glob.glob(os.path.join(glob.escape(str(folder)), pattern), recursive=True)
    return sorted(map(Path, found))


def _listing(
    archives: Mapping[str, list[Path]], caption: str, held_out: Mapping[str, float], seed: int
) -> Listing:
    skipped: Counter[str] = Counter()
    images: list[CaptionedImage] = []
    holders: dict[str, Path] = {}
    for split, paths in archives.items():
        for archive in paths:
            for name, parts in _grouped(archive, skipped).items():
                if name in holders:
                    both = f"{archive} and {holders[name]}"
                    raise UserError(f"{both} hold {printable(name)}, but an image is in one")
                holders[name] = archive
                if (image := _image(name, split, parts, caption, skipped)) is not None:
                    images.append(image)
    return divided(images, [split for split, paths in archives.items() if paths], held_out, seed, skipped)


def _grouped(archive: Path, skipped: Counter[str]) -> dict[str, dict[str, TarMember]]:
    """{name: {suffix in lower case: member}} of an archive; a picture's suffix is ".picture"."""
    pictures, found = Image.registered_extensions(), dict[str, dict[str, TarMember]]()
    for member in _members(archive):
        folder, base = os.path.split(member.name)
        stem, dot, suffix = base.partition(".")
        kind = f".{suffix.rpartition('.')[2].lower()}"
        kind = ".picture" if kind in pictures and kind != ".json" else f".{suffix.lower()}"
        if not (dot and stem) or kind not in (".picture", ".txt", ".json"):
            skipped["members that are neither pictures nor captions"] += 1
            continue
        parts = found.setdefault(f"{folder}/{stem}" if folder else stem, {})
        if kind in parts:
            raise UserError(
                f"{archive} holds both {printable(parts[kind].name)} and {printable(member.name)}"
            )
        parts[kind] = member
    return found


def _members(archive: Path) -> Iterator[TarMember]:
    """The files in an archive.

    Raises:
        UserError: the archive is compressed, damaged or cut short; tarfile alone would end early in silence.
    """
    try:
        size = archive.stat().st_size
        with tarfile.open(archive, "r:") as tar:
            for one in tar:
                if one.offset_data + one.size > size:
                    raise UserError(f"{archive} is cut short within {printable(one.name)}; fetch it again")
                if one.isfile():
                    yield TarMember(archive, one.name, one.offset_data, one.size)
            _require_end(archive, tar.offset)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"cannot read {archive}: {printable(error) or type(error).__name__}; fetch it again, or unpack "
            "it to .tar where it is compressed"
        ) from None


def _require_end(archive: Path, offset: int) -> None:
    """Check that there are nothing but zeros, a block of them or more, from the end of the last member."""
    with open(archive, "rb") as file:
        file.seek(offset)
        end = file.read(BLOCK)
        if len(end) < BLOCK:
            raise UserError(f"{archive} is cut short: its end of archive is missing; fetch it again")
        while end and not end.strip(b"\0"):
            end = file.read(2**20)
        if end:
            raise UserError(f"{archive} is damaged after byte {offset:,}, or several in one; fetch it again")


def _image(
    name: str, split: str, parts: Mapping[str, TarMember], caption: str, skipped: Counter[str]
) -> CaptionedImage | None:
    if ".picture" not in parts:
        skipped["captions without a picture"] += 1
        return None
    texts: list[str] = []
    if ".txt" in parts:
        texts = decoded(parts[".txt"].read_bytes(), str(parts[".txt"])).split("\n")
    elif ".json" in parts:
        texts = _texts(parts[".json"], caption)
        skipped["blank captions"] += sum(not text.strip() for text in texts)
    kept = tuple(text for text in texts if text.strip())
    if not kept:
        skipped["images without captions"] += 1
        return None
    return CaptionedImage(name, parts[".picture"], split, kept)


def _texts(member: TarMember, caption: str) -> list[str]:
    where = str(member)
    value = parsed_json(decoded(member.read_bytes(), where), where)
    if not isinstance(value, dict) or caption not in value:
        keys = printable(", ".join(map(str, value))) if isinstance(value, dict) else "no keys"
        raise UserError(f"{where} has no {caption}, but {keys}; name yours with data.columns.caption=KEY")
    texts = value[caption]
    texts = texts if isinstance(texts, list) else ["" if texts is None else texts]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: {caption} is not text, or a list of texts")
    return texts
