from pathlib import Path

from PIL import Image

from autocaption.errors import UserError


def read_image(path: Path) -> Image.Image:
    """Decode an image file whole, as RGB.

    Raises:
        UserError: the file is missing, truncated, or no image; names the file.
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
