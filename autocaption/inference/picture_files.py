"""The pictures that words of a command line name."""

import glob
import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from autocaption.checks import as_path
from autocaption.errors import UserError
from autocaption.files import files_below

log = logging.getLogger(__name__)


def picture_files(words: Sequence[str]) -> list[Path]:
    """Files, in the order of the words, each once.

    Args:
        words: files, whatever their names end in; folders, whose pictures count, those of their folders too;
            patterns of either, where ** stands for any folders. Shells leave a pattern in quotes to us.

    Raises:
        UserError: a folder has no pictures, or a pattern fits nothing.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = as_path("PICTURE", word)
        if not path.exists() and glob.has_magic(word):
            paths = sorted(map(Path, glob.glob(str(path), recursive=True)))
            if not paths:
                raise UserError(f"nothing fits the pattern {word}; check the folder that it starts in")
        else:
            paths = [path]
        for one in paths:
            found.update(dict.fromkeys(_within(one) if one.is_dir() else [one]))
    return list(found)


def _within(folder: Path) -> list[Path]:
    """The pictures of a folder, by the ends of their names."""
    Image.init()
    known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    pictures = [
        file
        for file in sorted(files_below(folder))
        if file.suffix.lower() in known and not file.name.startswith(".") and file.is_file()
    ]
    if not pictures:
        raise UserError(
            f"no pictures in the folder {folder}; name files whose names end otherwise one by one"
        )
    return pictures
