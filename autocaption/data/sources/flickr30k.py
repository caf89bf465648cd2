"""Flickr30k.

Source: P. Young, A. Lai, M. Hodosh, J. Hockenmaier, "From image descriptions to visual denotations",
TACL 2 (2014).
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from autocaption.data.pictures import MAX_PIXELS
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
from autocaption.data.texts import picture_name, printable, read_lines
from autocaption.errors import UserError

SIZES = {"train": 29783, "val": 1000, "test": 1000}  # all of the 31,783 images
PICTURES = (
    "flickr30k-images",
    "flickr30k_images/flickr30k_images",  # Kaggle's
    "flickr30k_images",
    "Images",
    "images",
)
# One row of Kaggle's file lacks its second separator: "2199200615.jpg| 4   A dog runs across the grass ."
_ROW = re.compile(
    r"\s*(?P<name>[^|]+?)\s*\|\s*(?P<k>[0-9]{1,9})\s*(?:\||(?<=\s))\s?(?P<caption>.*)", re.DOTALL
)


def flickr30k(
    root: str,
    layout: str = AUTO,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    on_broken: str = "stop",
) -> ListedSource:
    """Flickr30k in the original layout, Kaggle's, or with Karpathy's json.

    Without Karpathy's splits 1,000 images each are drawn for val and test.

    Args:
        root: the folder with pictures and texts.
        layout: original, kaggle, karpathy, or auto.
        seed: seed of splits without lists.
        max_pixels: a picture of more pixels is refused.
        on_broken: `stop` where a picture is missing, or `skip` it.
    """
    tokens = ("results_20130124.token", "flickr30k/results_20130124.token")
    results = ("results.csv", "flickr30k_images/results.csv")
    layouts = [
        Layout("original", tokens, PICTURES, functools.partial(_original, seed=seed)),
        Layout("kaggle", results, PICTURES, functools.partial(_kaggle, seed=seed)),
        Layout("karpathy", ("dataset_flickr30k.json", "dataset.json"), PICTURES, read_karpathy),
    ]
    return file_source("Flickr30k", root, layouts, layout, max_pixels, on_broken)


def _original(file: Path, pictures: Path, seed: int) -> Listing:
    return _listing(read_token_file(file), file, pictures, seed, Counter())


def _kaggle(file: Path, pictures: Path, seed: int) -> Listing:
    """`results.csv`: lines of `image_name| comment_number| comment`, not quoted."""
    rows = []
    for number, line in read_lines(file):
        if number == 1 and line.split("|")[0].strip() == "image_name":
            continue
        row = _ROW.fullmatch(line)
        if row is None:
            raise UserError(
                f"{file}, line {number}: expected 'name.jpg| k| caption', found '{printable(line, 60)}'"
            )
        rows.append((picture_name(row["name"]), row["caption"]))
    skipped: Counter[str] = Counter()
    return _listing(required(gathered(rows, skipped), file), file, pictures, seed, skipped)


def _listing(
    captions: Mapping[str, tuple[str, ...]], file: Path, pictures: Path, seed: int, skipped: Counter[str]
) -> Listing:
    skipped["pictures without captions"] += without_captions(pictures, captions)
    sizes = in_proportion(len(captions), SIZES)
    return drawn_listing(captions, pictures, stems(captions, file), sizes, seed, skipped)
