"""Reading picture files."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from autocaption.data.manifest import Manifest
from autocaption.data.sources import CaptionedImage, Source
from autocaption.errors import UserError


def read_image(path: Path) -> Image.Image:
    """Decode an image file whole, as RGB.

    Raises:
        UserError: the file is missing, truncated, or not an image; names the file.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"image not found: {path}; restore the file or check data.root") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # PIL raises SyntaxError for broken PNG chunks and ValueError for some bad headers.
        raise UserError(
            f"broken image: {path} ({error}); replace the file or take it out of its split"
        ) from None


def check_pictures(source: Source, images: Sequence[CaptionedImage], manifest: Manifest) -> None:
    """Decode every picture that is a file, so that a broken one is found before the first step.

    Raises:
        UserError: names the first broken picture.
    """
    by_path = {image.path: image for image in images if image.path is not None}
    manifest.check(list(by_path), lambda path: source.read(by_path[path]))
