"""Captions that another system wrote, in COCO's result format: a list of {"image_id", "caption"}."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from autocaption.data.sources import CaptionedImage, ImageId
from autocaption.data.texts import picture_name, printable, read_json
from autocaption.errors import UserError


def read_captions(file: Path, images: Sequence[CaptionedImage], split: str) -> dict[ImageId, str]:
    """{image id: caption}, of each image of a split.

    An image is named by its id, as text or as a number, or by its file's name, with or without suffix. COCO's
    own tools take no caption of another image, and no second one of an image; neither is taken here, and none
    may be missing, so that all systems are scored on the same images.

    Args:
        file: the result file.
        images: the images of the split.
        split: its name, for messages.

    Raises:
        UserError: names the first entry or image that is wrong, and how many there are.
    """
    if not file.is_file():
        raise UserError(f"file of captions not found: {printable(file)}; give captions=FILE")
    entries = read_json(file)
    if not isinstance(entries, list):
        raise UserError(f'{file}: not COCO\'s result format, a list of {{"image_id": ..., "caption": ...}}')
    (known, shared), found = _names(images), dict[ImageId, str]()
    surplus: list[str] = []
    for number, entry in enumerate(entries):
        name, caption = _entry(file, number, entry)
        id = known.get(name)
        if name in shared:
            raise UserError(
                f"{file}: entry {number}: several images have a file {printable(name)}; name each by its id, "
                f"such as {printable(shared[name])}"
            )
        if id is None:
            surplus.append(name)
        elif id in found:
            raise UserError(f"{file}: entry {number} is a second caption of image {printable(id)}; keep one")
        else:
            found[id] = caption
    missing = [image.id for image in images if image.id not in found]
    if surplus:
        raise UserError(
            f"{file}: {len(surplus):,} of {len(entries):,} captions are of no image of split '{split}', "
            f"first {printable(surplus[0])}; its images have ids such as {printable(images[0].id)}, and "
            "data.split=... names the split that was captioned"
        )
    if missing:
        raise UserError(
            f"{file}: {len(missing):,} of the {len(images):,} images of split '{split}' have no caption, "
            f"first {printable(missing[0])}; add them, an empty one where there is nothing to say"
        )
    return found


def _entry(file: Path, number: int, entry: Any) -> tuple[str, str]:
    """(name of the image, caption)."""
    fields = entry if isinstance(entry, Mapping) else {}
    id, caption = fields.get("image_id"), fields.get("caption")
    if isinstance(id, bool) or not isinstance(id, str | int) or not isinstance(caption, str):
        raise UserError(
            f"{file}: entry {number} has no image_id (text or a whole number) and caption (text): "
            f"{printable(entry)}"
        )
    return picture_name(str(id)), caption


def _names(images: Sequence[CaptionedImage]) -> tuple[dict[str, ImageId], dict[str, ImageId]]:
    """{each name of an image: its id}, and {a file's name that several images have: the id of one}."""
    files = Counter[str]()
    aliases = dict[str, ImageId]()
    for image in images:
        if image.path is not None:
            file = PurePath(str(image.path))
            for name in {picture_name(file.name), picture_name(file.stem)}:
                files[name] += 1
                aliases[name] = image.id
    ids = {picture_name(str(image.id)): image.id for image in images}
    shared = {name: id for name, id in aliases.items() if files[name] > 1 and name not in ids}
    return {**aliases, **ids}, shared
