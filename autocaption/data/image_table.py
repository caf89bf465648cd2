"""The images of a split in flat arrays.

A worker that is forked shares the memory of its parent until one of them writes to it, and counting the
references to a Python object is a write. So a split of a hundred thousand images as objects would be copied
to each worker, page by page, over the first epoch; arrays and long byte strings stay shared.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import overload

import numpy as np

from autocaption.data.sources import WHOLE_FILES, CaptionedImage, FileName, ImageId, PictureFile

_SURROGATES = "surrogatepass"  # file names may hold bytes, and JSON escapes, that are no characters


class TextTable(Sequence[str]):
    """Texts as one byte string with offsets."""

    def __init__(self, texts: Iterable[str]) -> None:
        listed = list(texts)
        whole = "".join(listed)
        self._bytes = whole.encode("utf-8", _SURROGATES)
        self._starts = _starts(map(len if whole.isascii() else _size, listed), len(listed))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[str]:
        starts, whole = self._starts.tolist(), self._bytes
        for start, end in pairwise(starts):
            yield whole[start:end].decode("utf-8", _SURROGATES)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[str]: ...
    def __getitem__(self, i: int | slice) -> str | Sequence[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if not 0 <= i < len(self):
            raise IndexError(f"text {i} of {len(self)}")
        start, end = self._starts[i], self._starts[i + 1]
        return self._bytes[start:end].decode("utf-8", _SURROGATES)


class IdTable(Sequence[ImageId]):
    """Ids as integers, or else as texts; a mixture stays a list."""

    def __init__(self, ids: Sequence[ImageId]) -> None:
        self._ids: Sequence[ImageId] = ids
        self._numbers: np.ndarray | None = None
        if ids and all(isinstance(id, int) and -(2**63) <= id < 2**63 for id in ids):
            self._ids, self._numbers = (), np.array(ids, np.int64)
        elif all(isinstance(id, str) for id in ids):
            self._ids = TextTable(map(str, ids))

    def __len__(self) -> int:
        return len(self._ids) if self._numbers is None else len(self._numbers)

    def __iter__(self) -> Iterator[ImageId]:
        return iter(self._ids if self._numbers is None else self._numbers.tolist())

    @overload
    def __getitem__(self, i: int) -> ImageId: ...
    @overload
    def __getitem__(self, i: slice) -> "IdTable": ...
    def __getitem__(self, i: int | slice) -> "ImageId | IdTable":
        if isinstance(i, slice):
            return IdTable([self[k] for k in range(*i.indices(len(self)))])
        return self._ids[i] if self._numbers is None else int(self._numbers[i])


class ImageTable(Sequence[CaptionedImage]):
    """The images of a split, each made when it is asked for.

    Args:
        split: of all of them.
        images: the images, in order. What holds their pictures is kept as text where it is a whole file.
    """

    def __init__(self, split: str, images: Iterable[CaptionedImage]) -> None:
        rows = list(images)
        self._split, self._ids = split, IdTable([image.id for image in rows])
        self._paths: TextTable | None = None
        self._parts: list[PictureFile | None] = []
        parts = [image.path for image in rows]
        if all(isinstance(part, WHOLE_FILES) for part in parts):
            self._paths = TextTable(map(str, parts))
        else:
            self._parts = parts
        self._captions = TextTable(chain.from_iterable(image.captions for image in rows))
        self._first = _starts((len(image.captions) for image in rows), len(rows))

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[CaptionedImage]:
        paths = self._parts if self._paths is None else map(Path, self._paths)
        for (id, captions), path in zip(self.captions(), paths, strict=True):
            yield CaptionedImage(id, path, self._split, captions)

    def pictures(self) -> Iterator[tuple[ImageId, PictureFile | None]]:
        """The id of each image and what holds its picture."""
        return zip(self._ids, self._parts if self._paths is None else map(FileName, self._paths), strict=True)

    def captions(self) -> Iterator[tuple[ImageId, tuple[str, ...]]]:
        """The id of each image and its captions."""
        captions, counts = iter(self._captions), np.diff(self._first).tolist()
        for id, count in zip(self._ids, counts, strict=True):
            yield id, tuple(islice(captions, count))

    @overload
    def __getitem__(self, i: int) -> CaptionedImage: ...
    @overload
    def __getitem__(self, i: slice) -> "ImageTable": ...
    def __getitem__(self, i: int | slice) -> "CaptionedImage | ImageTable":
        if isinstance(i, slice):
            return ImageTable(self._split, (self[k] for k in range(*i.indices(len(self)))))
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        i %= len(self)
        path = self._parts[i] if self._paths is None else Path(self._paths[i])
        captions = tuple(self._captions[int(self._first[i]) : int(self._first[i + 1])])
        return CaptionedImage(self._ids[i], path, self._split, captions)


def _starts(sizes: Iterable[int], count: int) -> np.ndarray:
    """Where each of `count` parts of these sizes starts, and where the last one ends."""
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.fromiter(sizes, np.int64, count), out=starts[1:])
    return starts


def _size(text: str) -> int:
    """Bytes of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8", _SURROGATES))


def pictures_of(images: Sequence[CaptionedImage]) -> Iterator[tuple[ImageId, PictureFile | None]]:
    """The id of each image and what holds its picture; no caption of a table is decoded for it."""
    if isinstance(images, ImageTable):
        return images.pictures()
    return ((image.id, image.path) for image in images)


def captions_of(images: Sequence[CaptionedImage]) -> Iterator[tuple[ImageId, tuple[str, ...]]]:
    """The id of each image and its captions; no path of a table is made for it."""
    if isinstance(images, ImageTable):
        return images.captions()
    return ((image.id, image.captions) for image in images)
