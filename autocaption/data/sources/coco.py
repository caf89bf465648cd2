"""COCO captions.

Source: X. Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", arXiv:1504.00325.
"""

import functools
import os
import re
from collections import Counter
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import CaptionedImage, FileName
from autocaption.data.sources.file_source import AUTO, Layout, file_source
from autocaption.data.sources.karpathy import read_karpathy
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import Listing
from autocaption.data.sources.splits import drawn
from autocaption.data.texts import picture_name, printable, read_json
from autocaption.errors import UserError

HELD_OUT = 5000  # of COCO's val images for each of val and test, as in Karpathy's split
SKIPPED_RESTVAL = "images of val that are in no split (data.source.restval=false)"


def coco(
    root: str,
    layout: str = AUTO,
    seed: int = 0,
    restval: bool = True,
    max_pixels: int = MAX_PIXELS,
    on_broken: str = "stop",
) -> ListedSource:
    """COCO of 2014 or 2017, or with Karpathy's json; image ids are COCO's integers.

    COCO publishes no captions of its test images. So val and test are drawn from its val images: 5,000 each,
    or half of them where there are fewer; the others ("restval") are training images.

    Args:
        root: the folder that holds annotations/ (or Karpathy's dataset_coco.json) and train2014/,
            val2014/ or train2017/, val2017/.
        layout: 2014, 2017, karpathy, or auto.
        seed: seed of the division of val images.
        restval: whether the other val images are training images; skipped otherwise.
        max_pixels: a picture of more pixels is refused.
        on_broken: `stop` where a picture is missing, or `skip` it.
    """
    layouts = []
    for year in ("2014", "2017"):
        name = f"captions_train{year}.json"
        read = functools.partial(_official, year=year, seed=seed, restval=restval)
        layouts.append(
            Layout(year, (f"annotations/{name}", name), (f"train{year}", f"images/train{year}"), read)
        )
    texts = ("dataset_coco.json", "dataset.json", "annotations/dataset_coco.json")
    read = functools.partial(_karpathy, restval=restval)
    layouts.append(Layout("karpathy", texts, ("train2014", "images/train2014"), read))
    return file_source("COCO", root, layouts, str(layout), max_pixels, on_broken)


def _karpathy(file: Path, pictures: Path, restval: bool) -> Listing:
    return read_karpathy(file, pictures.parent, restval)


def _official(file: Path, pictures: Path, year: str, seed: int, restval: bool) -> Listing:
    skipped: Counter[str] = Counter()
    training = _captioned(file, pictures, skipped)
    held_out = _captioned(
        file.with_name(f"captions_val{year}.json"), pictures.with_name(f"val{year}"), skipped
    )
    if both := training.keys() & held_out.keys():
        raise UserError(
            f"{file} and captions_val{year}.json both have image {min(both)}; restore the originals"
        )
    size = min(HELD_OUT, len(held_out) // 2)
    split_of = drawn([*held_out], {"val": size, "test": size}, seed)
    if not restval:
        skipped[SKIPPED_RESTVAL] += len(held_out) - len(split_of)
        held_out = {id: one for id, one in held_out.items() if id in split_of}
    images = [
        CaptionedImage(id, path, split_of.get(id, "train"), texts)
        for id, (path, texts) in chain(training.items(), held_out.items())
    ]
    return Listing(images, skipped, f"val and test drawn from val{year} with seed {seed}")


def _captioned(
    file: Path, folder: Path, skipped: Counter[str]
) -> dict[int, tuple[FileName, tuple[str, ...]]]:
    """{id: (path, captions)} of an annotation file's images; captions are in order of their ids."""
    content = _parsed(file)
    captions: dict[int, list[str]] = {image.id: [] for image in content.images}
    if repeated := len(content.images) - len(captions):
        raise UserError(f"{file}: {repeated:,} images have the id of another")
    try:
        content.annotations.sort(key=attrgetter("id"))
    except TypeError:
        raise UserError(f"{file}: some annotations have an integer as id, and others a text") from None
    for annotation in content.annotations:
        texts = captions.get(annotation.image_id)
        if texts is None:
            raise UserError(f"{file}: annotation {annotation.id} is of no image in 'images'")
        if annotation.caption.strip():
            texts.append(annotation.caption)
        else:
            skipped["blank captions"] += 1
    found, place = {}, os.path.join(folder, "")
    for image in content.images:
        if not image.file_name.strip():
            raise UserError(f"{file}: image {image.id} has a blank file_name")
        if texts := captions[image.id]:
            name = picture_name(image.file_name)
            found[image.id] = FileName(name if os.path.isabs(name) else place + name), tuple(texts)
    skipped["images without captions"] += len(captions) - len(found)
    return found


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str


class _Annotation(msgspec.Struct, gc=False):
    id: int | str
    image_id: int
    caption: str


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    licenses: Any = None  # read because they have ids, too

    def has_each_key_once(self, raw: bytes) -> bool:
        """Whether no object of this JSON text has a key of ours twice; False where that isn't sure.

        Unless its letters are escaped, a key is in the text at least as often as objects have it.
        """
        images, captions = len(self.images), len(self.annotations)
        licenses = msgspec.json.encode(self.licenses).count(b'"id"')
        times = {
            b'"file_name"': images,
            b'"image_id"': captions,
            b'"caption"': captions,
            b'"id"': images + captions + licenses,
        }
        escaped_letter = re.search(rb"\\u00[4-7]", raw)
        return not escaped_letter and all(raw.count(key) == count for key, count in times.items())


def _parsed(file: Path) -> _Content:
    """What an annotation file says.

    msgspec takes a third of json's time for a file as COCO publishes it. It silently keeps the last of
    several values of a key, and doesn't say in which line a file isn't JSON: `read_json` is for such files.
    """
    try:
        raw = file.read_bytes()
        content = msgspec.json.decode(raw, type=_Content)
        if content.has_each_key_once(raw):
            return content
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.convert(read_json(file), _Content)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{file}: not an annotation file of COCO captions ({printable(error)}); "
            "it has lists 'images' (id, file_name) and 'annotations' (id, image_id, caption)"
        ) from None
