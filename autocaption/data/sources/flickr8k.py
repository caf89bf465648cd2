"""Flickr8k in its original layout."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from autocaption.data.pictures import read_image
from autocaption.data.sources import SPLITS, CaptionedImage
from autocaption.errors import UserError

SPLIT_FILES = {"train": "trainImages", "val": "devImages", "test": "testImages"}


class Flickr8k:
    """Flickr8k in its original layout.

    Source: M. Hodosh, P. Young, J. Hockenmaier, "Framing Image Description as a Ranking Task",
    JAIR 47 (2013).

    Args:
        root: the folder that holds `Flicker8k_Dataset/` (sic) and `Flickr8k_text/`.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        self.image_folder = self.root / "Flicker8k_Dataset"
        self.text_folder = self.root / "Flickr8k_text"
        for folder in (self.root, self.image_folder, self.text_folder):
            if not folder.is_dir():
                raise UserError(
                    f"folder not found: {folder}; data.root must name the folder that holds "
                    "Flicker8k_Dataset/ and Flickr8k_text/"
                )
        self._captions: dict[str, tuple[str, ...]] | None = None

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split, in the order of its file.

        Raises:
            UserError: the split is unknown, a file cannot be read, or an image of the split is missing
                or has no caption. Captions of images in no split are ignored: the original token file
                names 92 such images.
        """
        if name not in SPLIT_FILES:
            raise UserError(f"no split '{name}' in Flickr8k; take one of: {', '.join(SPLITS)}")
        if self._captions is None:
            self._captions = read_captions(self.text_folder / "Flickr8k.token.txt")
        split_file = self.text_folder / f"Flickr_8k.{SPLIT_FILES[name]}.txt"
        files = [line.strip() for line in _lines(split_file) if line.strip()]
        if not files:
            raise UserError(f"no image names in {split_file}; restore the original file")
        present = {entry.name for entry in self.image_folder.iterdir()}
        images = []
        for file in files:
            if file not in present:
                raise UserError(f"image of split '{name}' is missing: {self.image_folder / file}; restore it")
            if file not in self._captions:
                raise UserError(f"no caption for {file} of split '{name}' in Flickr8k.token.txt; restore it")
            images.append(
                CaptionedImage(Path(file).stem, self.image_folder / file, name, self._captions[file])
            )
        return images

    def read(self, image: CaptionedImage) -> Image.Image:
        """The picture, in RGB; UserError where it cannot be decoded."""
        assert image.path is not None
        return read_image(image.path)


def read_captions(file: Path) -> dict[str, tuple[str, ...]]:
    """Parse lines of `name.jpg#k<TAB>caption` into the captions of each file, in order of k."""
    captions: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, _, k = key.partition("#")
        if not (tab and k.isdecimal() and caption.strip()):
            raise UserError(f"{file}, line {number}: expected 'name.jpg#k<TAB>caption', found {line[:60]!r}")
        captions[name].append((int(k), caption))
    if not captions:
        raise UserError(f"no captions in {file}: the file is empty; restore the original")
    return {name: tuple(text for _, text in sorted(texts)) for name, texts in captions.items()}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"file not found: {file}; it belongs to Flickr8k's text archive") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
