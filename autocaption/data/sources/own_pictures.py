"""Your own pictures: a folder with a table of captions, or with a text file beside each picture."""

import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autocaption.checks import as_path, require_keys
from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import CaptionedImage, ImageId
from autocaption.data.sources.file_source import AUTO, Layout, file_source
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import FolderContents, Listing, drawn_listing, gathered, pictures_in
from autocaption.data.sources.splits import NAMES, held_out_sizes, split_named
from autocaption.data.texts import parsed_json, picture_name, printable, read_json, read_lines, read_table
from autocaption.errors import UserError
from autocaption.files import files_below

TABLES = {"csv": (".csv",), "tsv": (".tsv",), "json": (".json",), "jsonl": (".jsonl", ".ndjson")}
ROLES = ("image", "caption", "split")
Row = tuple[int, dict[str, Any]]  # (line or number of a record, {column: value})


def folder(
    root: str,
    layout: str = AUTO,
    file: str | None = None,
    columns: Mapping[str, str] | None = None,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    on_broken: str = "stop",
) -> ListedSource:
    """Your own pictures, with captions in a CSV, TSV, JSON or JSONL file or in `.txt` files beside them.

    A table has columns for a picture's name (relative to the root), a caption, and optionally a split; an
    image may have several rows, and a JSON caption may be a list. A `.txt` file has a caption a line; where
    all its pictures are in folders named train, val and test, those are the splits. Else splits are drawn.

    Args:
        root: the folder of the pictures.
        layout: csv, tsv, json, jsonl, txt, or auto.
        file: the table, relative to the root; None for the only one there.
        columns: the names of the columns `image`, `caption` and `split`.
        val: images of this split where splits are drawn: a share of all (below 1) or a number.
        test: likewise.
        seed: seed of splits that are drawn.
        max_pixels: a picture of more pixels is refused.
        on_broken: `stop` where a picture is missing, or `skip` it.
    """
    require_keys("data.columns", columns or {}, ROLES)
    names = dict(zip(ROLES, ROLES, strict=True)) | dict(columns or {})
    held_out, base = {"val": val, "test": test}, as_path("data.root", root)
    layouts = []
    for kind, suffixes in TABLES.items():
        found = [file] if file else _named(base, suffixes)
        if len(found) > 1:
            raise UserError(
                f"{base} holds {len(found)} tables ({', '.join(map(printable, found[:5]))}); name "
                "one with data.file=NAME"
            )
        if not file or Path(file).suffix.lower() in suffixes:
            read = functools.partial(_table, kind=kind, columns=names, held_out=held_out, seed=seed)
            layouts.append(Layout(kind, tuple(found or (f"*{suffixes[0]}",)), (".",), read))
    if not file:
        beside = functools.partial(_beside, held_out=held_out, seed=seed)
        mark = _first_text(base) or "NAME.txt beside NAME.jpg"
        layouts.append(Layout("txt", (mark,), (".",), beside))
    if not layouts:
        raise UserError(f"data.file={file}: a table is a .csv, .tsv, .json or .jsonl file")
    return file_source("folder", root, layouts, layout, max_pixels, on_broken)


def _named(root: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The tables in a folder."""
    if not root.is_dir():
        return []
    return sorted(
        path.name
        for path in root.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _first_text(root: Path) -> str | None:
    """A `.txt` file that lies beside a picture of its name, relative to the root."""
    if not root.is_dir():
        return None
    folders = FolderContents()
    found = (folders.find(str(path.with_suffix(".txt"))) for path in pictures_in(root))
    return next((os.path.relpath(file, root) for file in found if file), None)


def _table(
    file: Path, root: Path, kind: str, columns: Mapping[str, str], held_out: Mapping[str, float], seed: int
) -> Listing:
    skipped, odd = Counter[str](), Counter[str]()
    captions: list[tuple[str, str]] = []
    splits: dict[str, str] = {}
    without, last = 0, 0
    for number, row in _rows(file, kind):
        where = f"{file}, {'record' if kind == 'json' else 'line'} {number}"
        name, texts, split = _fields(row, columns, where)
        if splits.setdefault(name, split) != split:
            raise UserError(
                f"{where}: {printable(name)} is in split '{split}', and before in "
                f"'{splits[name]}'; an image is in one"
            )
        without += not split
        odd["captions over several lines (check the quotes)"] += sum("\n" in text for text in texts)
        last = number
        captions += [(name, text) for text in texts]
    if not last:
        raise UserError(f"{file} has no rows; it needs columns {columns['image']} and {columns['caption']}")
    if without and any(splits.values()):
        name = next(name for name, split in splits.items() if not split)
        raise UserError(
            f"{file}: {without:,} rows have no value in column {columns['split']}, the first "
            f"of {printable(name)}, but others have; give all of them a split, or none"
        )
    named = gathered(captions, skipped)
    known = {Path(name) for name in named}
    found = (Path(picture_name(str(path.relative_to(root)))) for path in pictures_in(root))
    skipped["pictures without captions"] += sum(name not in known for name in found)
    if without:
        ids: dict[str, ImageId] = {name: name for name in named}
        listing = drawn_listing(named, root, ids, held_out_sizes(len(named), held_out), seed, skipped)
    else:
        images = [CaptionedImage(name, root / name, splits[name], texts) for name, texts in named.items()]
        listing = Listing(images, skipped, f"column {columns['split']}")
    listing.odd = odd
    return listing


def _rows(file: Path, kind: str) -> Iterator[Row]:
    if kind in ("csv", "tsv"):
        yield from read_table(file, "," if kind == "csv" else "\t")
        return
    if kind == "json":
        records = read_json(file)
        if not isinstance(records, list):
            raise UserError(f"{file}: expected a list of records")
        numbered: Iterable[tuple[int, Any]] = enumerate(records, start=1)
    else:
        lines = read_lines(file)
        numbered = ((number, parsed_json(line, file, f", line {number}")) for number, line in lines)
    for number, record in numbered:
        if not isinstance(record, dict):
            raise UserError(
                f"{file}, record {number}: expected {{column: value}}, found {printable(record, 60)}"
            )
        yield number, record


def _fields(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> tuple[str, list[str], str]:
    """(name of the picture, captions, split or "") of a row."""
    if missing := [columns[role] for role in ("image", "caption") if columns[role] not in row]:
        raise UserError(
            f"{where}: no column {' and no '.join(missing)} among {printable(', '.join(map(str, row)))}; "
            "name yours with data.columns.image=NAME and data.columns.caption=NAME"
        )
    name, texts, split = (row.get(columns[role]) for role in ROLES)
    if not (isinstance(name, str) and name.strip() and "\0" not in name):
        raise UserError(f"{where}: no name of a picture in column {columns['image']}")
    texts = texts if isinstance(texts, list) else ["" if texts is None else texts]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: column {columns['caption']} is not text, or a list of texts")
    split = "" if split is None else str(split).strip()
    if split and split_named(split) is None:
        raise UserError(f"{where}: unknown split '{printable(split)}'; take one of: {', '.join(NAMES)}")
    return picture_name(name), texts or [""], split_named(split) or ""


def _beside(file: Path, root: Path, held_out: Mapping[str, float], seed: int) -> Listing:
    skipped = Counter[str]()
    captions: dict[str, tuple[str, ...]] = {}
    names = [path.relative_to(root) for path in pictures_in(root)]
    counts = Counter(name.with_suffix(".txt") for name in names)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise UserError(f"{root} holds several pictures that would share {printable(twice)}; rename them")
    folders, used = FolderContents(), set[str]()
    for name in names:
        text = folders.find(str(root / name.with_suffix(".txt")))
        if text is None:
            skipped["pictures without a .txt file"] += 1
            continue
        used.add(text)
        lines = tuple(line for _, line in read_lines(Path(text)))
        if lines:
            captions[picture_name(str(name))] = lines
        else:
            skipped["pictures with an empty .txt file"] += 1
    texts = (str(path) for path in files_below(root) if path.suffix == ".txt")
    skipped[".txt files without a picture"] += sum(text not in used for text in texts)
    if not captions:
        raise UserError(f"no captions in {root}: all .txt files beside its pictures are empty")
    parts = {name: Path(name).parts for name in captions}
    splits = {name: split_named(some[0]) if len(some) > 1 else None for name, some in parts.items()}
    if not all(splits.values()):
        ids: dict[str, ImageId] = {name: name for name in captions}
        return drawn_listing(captions, root, ids, held_out_sizes(len(captions), held_out), seed, skipped)
    images = [
        CaptionedImage(name, root / name, split, captions[name]) for name, split in splits.items() if split
    ]
    return Listing(images, skipped, "folders train, val and test")
