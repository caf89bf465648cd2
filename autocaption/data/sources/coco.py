"""COCO captions.

Source: X. Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", arXiv:1504.00325.
"""

import functools
import os
from collections import Counter
from operator import itemgetter
from pathlib import Path

from autocaption.data.pictures import MAX_PIXELS
from autocaption.data.sources import CaptionedImage, FileName
from autocaption.data.sources.file_source import AUTO, Layout, file_source
from autocaption.data.sources.karpathy import read_karpathy
from autocaption.data.sources.listed_source import ListedSource
from autocaption.data.sources.listing import Listing
from autocaption.data.sources.splits import drawn
from autocaption.data.texts import one_line, picture_name, read_json
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
    images = _images(file, pictures, "train", skipped)
    held_out = _images(
        file.with_name(f"captions_val{year}.json"), pictures.with_name(f"val{year}"), "val", skipped
    )
    size = min(HELD_OUT, len(held_out) // 2)
    split_of = drawn([image.id for image in held_out], {"val": size, "test": size}, seed)
    both = {image.id for image in images} & {image.id for image in held_out}
    if both:
        raise UserError(
            f"{file} and captions_val{year}.json both have image {min(both)}; restore the originals"
        )
    for image in held_out:
        if image.id in split_of or restval:
            split = split_of.get(image.id, "train")
            images.append(CaptionedImage(image.id, image.path, split, image.captions))
        else:
            skipped[SKIPPED_RESTVAL] += 1
    return Listing(images, skipped, f"val and test drawn from val{year} with seed {seed}")


def _images(file: Path, folder: Path, split: str, skipped: Counter[str]) -> list[CaptionedImage]:
    """The images of an annotation file, each with its captions in order of their ids."""
    content = read_json(file)
    try:
        names = {entry["id"]: entry["file_name"] for entry in content["images"]}
        repeated = len(content["images"]) - len(names)
        captions: dict[int, list[str]] = {id: [] for id in names}
        for entry in sorted(content["annotations"], key=itemgetter("id")):
            texts, caption = captions.get(entry["image_id"]), entry["caption"]
            if texts is None or not isinstance(caption, str):
                raise UserError(
                    f"{file}: annotation {one_line(entry['id'])} has no text or is of no image in 'images'"
                )
            if caption.strip():
                texts.append(caption)
            else:
                skipped["blank captions"] += 1
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not an annotation file of COCO captions "
            f"({type(error).__name__}: {one_line(error)}); "
            "it has lists 'images' (id, file_name) and 'annotations' (id, image_id, caption)"
        ) from None
    if repeated:
        raise UserError(f"{file}: {repeated:,} images have the id of another")
    for id, name in names.items():
        if not (isinstance(id, int) and isinstance(name, str) and name.strip()):
            raise UserError(f"{file}: image {one_line(id)} has no integer id or no file_name")
    skipped["images without captions"] += sum(not texts for texts in captions.values())
    return [
        CaptionedImage(id, FileName(os.path.join(folder, picture_name(name))), split, tuple(captions[id]))
        for id, name in names.items()
        if captions[id]
    ]
