"""Reading picture files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from autocaption.data.sources import CaptionedImage, Source
from autocaption.errors import UserError
from autocaption.progress import track


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


def check_pictures(source: Source, images: Sequence[CaptionedImage]) -> None:
    """Decode every picture that is a file, so that a broken one is found before the first step.

    Raises:
        UserError: names the first broken picture.
    """

    def decode(image: CaptionedImage) -> None:
        source.read(image)

    files = [image for image in images if image.path is not None]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(decode, image) for image in files]
        try:
            for future in track(futures, "Checking images", len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
