"""The json files of Karpathy & Fei-Fei (2015), with their splits of Flickr8k, Flickr30k and COCO."""

from collections import Counter
from pathlib import Path
from typing import Any

from autocaption.data.sources import CaptionedImage, ImageId
from autocaption.data.sources.listing import Listing
from autocaption.data.sources.splits import split_named
from autocaption.data.texts import picture_name, printable, read_json
from autocaption.errors import UserError


def read_karpathy(file: Path, folder: Path, restval: bool = True) -> Listing:
    """Listing of `{"images": [{"filename", "split", "sentences": [{"raw"}]}]}`.

    Args:
        file: dataset_flickr8k.json, dataset_flickr30k.json or dataset_coco.json.
        folder: the folder of pictures, or of the folders that COCO's `filepath` names.
        restval: whether COCO's images of split `restval` are training images; skipped otherwise.

    Raises:
        UserError: names the image whose entry is not like that.
    """
    content = read_json(file)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: no list 'images'; it must be one of Karpathy's dataset_*.json files")
    skipped: Counter[str] = Counter()
    images: list[CaptionedImage] = []
    seen: set[ImageId] = set()
    for number, entry in enumerate(entries):
        try:
            image, rest, blank = _image(entry, folder)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{file}: images[{number}] is not a record with filename, split and sentences "
                f"({type(error).__name__}: {printable(error)})"
            ) from None
        if image.id in seen:
            raise UserError(f"{file}: images[{number}] has the id of another image, {printable(image.id)}")
        seen.add(image.id)
        skipped["blank captions"] += blank
        skipped["images of split restval"] += rest and not restval
        skipped["images without captions"] += not image.captions
        if image.captions and (restval or not rest):
            images.append(image)
    return Listing(images, skipped, f"those of {file.name}")


def _image(entry: Any, folder: Path) -> tuple[CaptionedImage, bool, int]:
    """(image, whether it is of split restval, number of its blank captions)."""
    name, split = entry["filename"], split_named(entry["split"])
    if not (isinstance(name, str) and name.strip()):
        raise ValueError("filename is blank or no text")
    if split is None:
        raise ValueError(f"unknown split {entry['split']!r}")
    captions = [sentence["raw"] for sentence in entry["sentences"]]
    if not all(isinstance(caption, str) for caption in captions):
        raise TypeError("a caption is not text")
    whole = tuple(caption for caption in captions if caption.strip())
    name = picture_name(name)
    id: ImageId = Path(name).stem
    if "cocoid" in entry:
        id = int(entry["cocoid"])
    path = folder / entry.get("filepath", "") / name
    rest = str(entry["split"]).strip().lower() == "restval"
    return CaptionedImage(id, path, split, whole), rest, len(captions) - len(whole)
