"""Flickr8k.

Source: M. Hodosh, P. Young, J. Hockenmaier, "Framing Image Description as a Ranking Task", JAIR 47 (2013).
"""

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import CaptionedImage
from autocaption.data.sources.file_source import AUTO, Layout, file_source
from autocaption.data.sources.karpathy import read_karpathy
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import (
    Listing,
    drawn_listing,
    gathered,
    required,
    stems,
    without_captions,
)
from autocaption.data.sources.splits import in_proportion
from autocaption.data.sources.token_file import read_token_file
from autocaption.data.texts import picture_name, printable, read_lines, read_table
from autocaption.errors import UserError

SPLIT_FILES = {"train": "trainImages", "val": "devImages", "test": "testImages"}
SIZES = {"train": 6000, "val": 1000, "test": 1000}
PICTURES = (
    "Flicker8k_Dataset",  # the original's spelling
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Images",
    "images",
)


def flickr8k(
    root: str,
    layout: str = AUTO,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    on_broken: str = "stop",
) -> ListedSource:
    """Flickr8k in the original layout, Kaggle's, or with Karpathy's json.

    The official lists of the splits count wherever they are; without them 6,000, 1,000 and 1,000 images are
    drawn.

    Args:
        root: the folder with pictures and texts.
        layout: original, kaggle, karpathy, or auto.
        seed: seed of splits without lists.
        max_pixels: a picture of more pixels is refused.
        on_broken: `stop` where a picture is missing, or `skip` it.
    """
    tokens = ("Flickr8k_text/Flickr8k.token.txt", "Flickr8k.token.txt")
    layouts = [
        Layout("original", tokens, PICTURES, functools.partial(_original, seed=seed)),
        Layout("kaggle", ("captions.txt",), PICTURES, functools.partial(_kaggle, seed=seed)),
        Layout("karpathy", ("dataset_flickr8k.json", "dataset.json"), PICTURES, read_karpathy),
    ]
    return file_source("Flickr8k", root, layouts, layout, max_pixels, on_broken)


def _original(file: Path, pictures: Path, seed: int) -> Listing:
    return _listing(read_token_file(file), file, pictures, seed, Counter())


def _kaggle(file: Path, pictures: Path, seed: int) -> Listing:
    """`captions.txt`: a CSV file with the header `image,caption`."""
    skipped: Counter[str] = Counter()
    rows = []
    for number, row in read_table(file, ","):
        if not row.keys() >= {"image", "caption"}:
            raise UserError(
                f"{file}: expected the header 'image,caption', found '{printable(','.join(row))}'"
            )
        if not row["image"].strip():
            raise UserError(f"{file}, line {number}: no name of a picture")
        rows.append((picture_name(row["image"]), row["caption"]))
    return _listing(required(gathered(rows, skipped), file), file, pictures, seed, skipped)


def _listing(
    captions: Mapping[str, tuple[str, ...]], file: Path, pictures: Path, seed: int, skipped: Counter[str]
) -> Listing:
    """With the official splits where their lists lie beside the captions, or in the original's folder."""
    skipped["pictures without captions"] += without_captions(pictures, captions)
    folders = (file.parent, file.parent / "Flickr8k_text")
    lists = [
        {split: folder / f"Flickr_8k.{name}.txt" for split, name in SPLIT_FILES.items()} for folder in folders
    ]
    official = next((one for one in lists if any(path.exists() for path in one.values())), None)
    if official is None:
        sizes = in_proportion(len(captions), SIZES)
        return drawn_listing(captions, pictures, stems(captions, file), sizes, seed, skipped)
    images = []
    seen: dict[str, str] = {}
    for split, path in official.items():
        names = [picture_name(line) for _, line in read_lines(path)]
        if not names:
            raise UserError(f"no image names in {path}; restore the original file")
        for name in names:
            if name not in captions:
                raise UserError(f"no caption for {printable(name)} of split '{split}' in {file}; restore it")
            if name in seen:
                raise UserError(f"{path} names {printable(name)}, which is in split '{seen[name]}' already")
            seen[name] = split
            images.append(CaptionedImage(Path(name).stem, pictures / name, split, captions[name]))
    stems(seen, path)
    skipped["images that are in no split"] += len(captions) - len(seen)
    return Listing(images, skipped, "the official lists")
