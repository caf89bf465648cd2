"""Data sets of Hugging Face, from the disk or the hub (extra `huggingface`)."""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from autocaption.checks import as_path, require_keys
from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import SPLITS, CaptionedImage, ImageId, PictureFile
from autocaption.data.sources.file_source import present
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import Listing, divided
from autocaption.data.sources.splits import NAMES, split_named
from autocaption.data.texts import printable
from autocaption.errors import UserError


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture within a table on disk.

    Attributes:
        table: a data set with a column of undecoded pictures alone.
        row: the picture's.
        file: what holds the table.
        name: the picture's own name; may be empty.
    """

    table: Any
    row: int
    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}" + (f" ({printable(self.name)})" if self.name else "")

    @property
    def suffix(self) -> str:
        """What its own name ends in."""
        return PurePath(self.name).suffix

    def read_bytes(self) -> bytes:
        """The encoded picture."""
        (picture,) = self.table[self.row].values()
        return picture["bytes"]

    def stat(self) -> os.stat_result:
        """Of the table's file."""
        return self.file.stat()


def huggingface(
    root: str,
    name: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    splits: Mapping[str, str | None] | None = None,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    on_broken: str = "stop",
) -> ListedSource:
    """A data set of Hugging Face's `datasets`, with a row for each image or for each caption.

    Args:
        root: a folder that `save_to_disk` wrote, or what `load_dataset` takes: a name on the hub, or a folder
            of tables.
        name: which configuration of a data set that has several.
        columns: the names of the columns `image` (pictures, or paths of files), `caption` (a text or a list
            of texts), `id` and `split`. Rows of one id are one image; without ids each row is an image.
        splits: what the data set calls train, val and test; None to recognise them. A column of splits
            counts before them; val and test are drawn from train where there are none.
        val: images of this split where it is drawn: a share of all (below 1) or a number.
        test: likewise.
        seed: of the draw.
        max_pixels: a picture of more pixels is refused.
        on_broken: `stop` where the file of a path is missing, or `skip` it.
    """
    known: dict[str, str | None] = {"image": "image", "caption": "caption", "id": None, "split": "split"}
    require_keys("data.splits", splits or {}, SPLITS)
    require_keys("data.columns", columns or {}, tuple(known))
    named = known | dict(columns or {})
    listing = functools.partial(_listing, root, name, named, splits or {}, {"val": val, "test": test}, seed)
    there = functools.partial(present, on_broken)
    return ListedSource("huggingface", root, name or "its only configuration", listing, max_pixels, there)


def _listing(
    root: str,
    name: str | None,
    columns: Mapping[str, str | None],
    splits: Mapping[str, str | None],
    held_out: Mapping[str, float],
    seed: int,
) -> Listing:
    tables, skipped = _loaded(root, name), Counter[str]()
    if all(columns["split"] in table.column_names for table in tables.values()):
        chosen, given = dict.fromkeys(tables, ""), list(SPLITS)
    else:
        chosen = _chosen(tables, splits, skipped)
        given = list(chosen.values())
    first: dict[ImageId, CaptionedImage] = {}
    captions: dict[ImageId, list[str]] = {}
    for key, split in chosen.items():
        for image in _images(as_path("data.root", root), key, tables[key], columns, split, skipped):
            one = first.setdefault(image.id, image)
            if one.split != image.split:
                raise UserError(
                    f"{root}: image {printable(image.id)} is in split '{image.split}', and before in "
                    f"'{one.split}'; an image is in one"
                )
            captions.setdefault(image.id, []).extend(image.captions)
    skipped["images without captions"] += sum(not texts for texts in captions.values())
    images = [replace(image, captions=tuple(captions[id])) for id, image in first.items() if captions[id]]
    listing = divided(images, given, held_out, seed, skipped)
    return listing if any(chosen.values()) else replace(listing, splits=f"column {columns['split']}")


def _loaded(root: str, name: str | None) -> dict[str, Any]:
    """{name of a split: its table}."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            "data=huggingface needs the package datasets: pip install 'autocaption[huggingface]'"
        ) from None
    folder = as_path("data.root", root)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    try:
        # In full, since load_dataset takes `parquet` and its like to be kinds of files.
        source = str(folder.resolve()) if folder.exists() else root
        loaded = datasets.load_from_disk(source) if saved else datasets.load_dataset(source, name)
    except Exception as error:  # of datasets, pyarrow, the hub and the network, each with its own kinds
        raise UserError(
            f"cannot load the data set {root}: {type(error).__name__}: {printable(error)}; data.root names a "
            "folder that save_to_disk wrote, a folder of tables, or a data set on the hub"
        ) from None
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _chosen(
    tables: Mapping[str, Any], splits: Mapping[str, str | None], skipped: Counter[str]
) -> dict[str, str]:
    """{name of a table: split}, as configured or recognised."""
    chosen: dict[str, str] = {}
    for split in SPLITS:
        wanted = splits.get(split)
        found = [key for key in tables if (key == wanted if wanted else split_named(key) == split)]
        if len(found) > 1 or (not found and (wanted or split == "train")):
            raise UserError(
                f"data.splits.{split}={wanted or 'null'}: the data set has the splits {', '.join(tables)}; "
                f"name one with data.splits.{split}=NAME"
            )
        chosen.update(dict.fromkeys(found, split))
    for key in tables.keys() - chosen.keys():
        skipped[f"rows of {printable(key)}, which is no split of ours"] += len(tables[key])
    return chosen


def _images(
    root: Path,
    key: str,
    table: Any,
    columns: Mapping[str, str | None],
    split: str,
    skipped: Counter[str],
) -> Iterator[CaptionedImage]:
    """The rows of a table; where `split` is empty, a column has it."""
    for role in ("image", "caption", "id"):
        if columns[role] not in (None, *table.column_names):
            raise UserError(
                f"{root}, split '{key}': no column {columns[role]} among {', '.join(table.column_names)}; "
                f"name yours with data.columns.{role}=NAME"
            )
    pictures = _pictures(root, key, table, str(columns["image"]))
    texts = table[columns["caption"]]
    ids = table[columns["id"]] if columns["id"] else (f"{key}_{row}" for row in range(len(pictures)))
    splits = itertools.repeat(split) if split else table[columns["split"]]
    for row, (picture, id, named, text) in enumerate(zip(pictures, ids, splits, texts, strict=False)):
        where = f"{root}, split '{key}', row {row}"
        if picture is None:
            skipped["rows without a picture"] += 1
            continue
        if not isinstance(id, int | str):
            raise UserError(f"{where}: column {columns['id']} is neither a text nor a whole number")
        if (in_split := split or split_named(named)) is None:
            raise UserError(f"{where}: unknown split '{printable(named)}'; take one of: {', '.join(NAMES)}")
        captions = text if isinstance(text, list) else ["" if text is None else text]
        if not all(isinstance(one, str) for one in captions):
            raise UserError(f"{where}: column {columns['caption']} is not text, or a list of texts")
        kept = tuple(one for one in captions if one.strip())
        skipped["blank captions"] += len(captions) - len(kept)
        yield CaptionedImage(id, picture, in_split, kept)


def _pictures(root: Path, key: str, table: Any, column: str) -> list[PictureFile | None]:
    """What holds the picture of each row; none of them is read."""
    import datasets
    from pyarrow import compute

    try:
        undecoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        cells = undecoded.with_format("arrow")[:][column]
        names = compute.struct_field(cells, "path").to_pylist()
        within = compute.is_valid(compute.struct_field(cells, "bytes")).to_pylist()
        (file, *_) = undecoded.cache_files
    except Exception as error:  # of pyarrow and datasets
        raise UserError(
            f"{root}, split '{key}': column {column} holds no pictures ({type(error).__name__}: "
            f"{printable(error)})"
        ) from None
    return [
        Cell(undecoded, row, Path(file["filename"]), name or "") if here else (root / name if name else None)
        for row, (name, here) in enumerate(zip(names, within, strict=True))
    ]
