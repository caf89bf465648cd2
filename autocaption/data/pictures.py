"""Decoding pictures: one policy for training, stored features and captioning.

Whatever the file holds, the result is what a viewer shows, in RGB: upright, in sRGB, on white.
"""

import functools
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin

from autocaption.data.sources import PictureFile
from autocaption.errors import UserError, one_line

log = logging.getLogger(__name__)

MAX_PIXELS = 200_000_000  # data.max_pixels of checkpoints that have none
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SRGB = ImageCms.createProfile("sRGB")
_RANGES = (1, 2**8 - 1, 2**16 - 1)  # the usual largest values of pictures of floats or 32-bit integers
# Ours names the file and the key.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: PictureFile, least: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file as RGB; animations give their first frame.

    Args:
        path: the file, in any format of Pillow, whatever its name ends in.
        least: a side in pixels; a larger JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is several
            times as fast, but with no side shorter than this.
        max_pixels: a picture of more pixels is refused before it is decoded.

    Raises:
        UserError: the file is missing, truncated, too large, or not an image; names the file.
    """
    try:
        if not isinstance(path, Path):
            return decode(path.read_bytes(), str(path), least, max_pixels)
        with open(path, "rb") as file:
            return decode(file, str(path), least, max_pixels)
    except FileNotFoundError:
        raise UserError(f"image not found: {path}; restore the file or check data.root") from None
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror or error}") from None


def decode(
    file: BinaryIO | bytes, name: str, least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """`read_image` of an open file or of a file's content; errors call it `name`."""
    try:
        return as_shown(file, least, max_pixels)
    except TooLargeError as error:
        raise UserError(
            f"image too large: {name} has {error.pixels}, more than data.max_pixels={max_pixels}; raise it "
            "if you trust the file"
        ) from None
    except DecodeError as error:
        raise UserError(
            f"broken image: {name} ({error}); replace the file, take it out of its split, or "
            "leave such files out with data.on_broken=skip"
        ) from None


class DecodeError(Exception):
    """Why a picture cannot be decoded, in a few words and without its name."""


class TooLargeError(DecodeError):
    """A picture of more pixels than allowed."""

    def __init__(self, pixels: str, max_pixels: int) -> None:
        super().__init__(f"it has {pixels}, more than {max_pixels}")
        self.pixels = pixels


def as_shown(
    picture: BinaryIO | bytes | Image.Image, least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """A picture as a viewer shows it: RGB, upright, in sRGB, on white.

    Args:
        picture: an open file, a file's content, or what Pillow has opened, which stays as it is.
        least: as in `read_image`.
        max_pixels: likewise.

    Raises:
        DecodeError: TooLargeError, or any other reason.
    """
    if isinstance(picture, Image.Image):
        return _shown(picture, None, max_pixels)
    try:
        file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
        with _pillows_limit(max_pixels), Image.open(file) as image:
            return _shown(image, least, max_pixels)
    except Image.DecompressionBombError:  # Pillow's own, at twice the limit
        raise TooLargeError(f"over {2 * max_pixels} pixels", max_pixels) from None
    except Image.UnidentifiedImageError:
        raise DecodeError("it is not an image") from None
    except DecodeError:
        raise
    except Exception as error:  # a malformed file can make Pillow raise nearly anything
        raise DecodeError(_reason(error)) from None


@contextmanager
def _pillows_limit(max_pixels: int) -> Iterator[None]:
    """Let Pillow refuse larger pictures, also within pictures, for as long as any thread is in here.

    Its limit holds for the whole process, whose other pictures are none of our business.
    """
    global _before
    with _lock:
        if not _limits:
            _before = Image.MAX_IMAGE_PIXELS
        _limits.append(max_pixels)
        Image.MAX_IMAGE_PIXELS = max(_limits)
    try:
        yield
    finally:
        with _lock:
            _limits.remove(max_pixels)
            Image.MAX_IMAGE_PIXELS = max(_limits, default=_before)


_lock, _limits = threading.Lock(), list[int]()  # of the threads that decode at this moment
_before: int | None = None  # the process's own limit


def _shown(image: Image.Image, least: int | None, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise TooLargeError(f"{width} x {height} pixels", max_pixels)
    try:
        if least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (least, least))
        image.load()
        return _upright(_on_white(image), image)
    except Exception as error:  # likewise
        raise DecodeError(_reason(error)) from None


def _reason(error: Exception) -> str:
    return one_line(error) or type(error).__name__


def _on_white(image: Image.Image) -> Image.Image:
    """The picture as RGB in sRGB, where it is transparent mixed with white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image)
    transparent = image.has_transparency_data
    if transparent and image.mode not in ("LA", "RGBA"):
        image = _with_alpha(image)
    colour = image
    if transparent:
        colour = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        colour = image.convert("RGB")
    colour = _in_srgb(colour, image.info.get("icc_profile"))
    if not transparent:
        return colour
    white = Image.new("RGB", colour.size, "white")
    return Image.composite(colour, white, image.getchannel("A"))


def _with_alpha(image: Image.Image) -> Image.Image:
    """A palette with transparent colours, a transparent colour, or premultiplied alpha, as RGBA."""
    info = image.info
    image = image.convert("RGBA")
    image.info = info
    return image


def _grey(image: Image.Image) -> Image.Image:
    """A picture of deep grey, scaled to 8 bits.

    16-bit values by the range of the type. 32-bit ones and floats by the smallest range in use that holds
    them (1 for floats, 255, 65535), else from their least to their largest.
    """
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        if not finite.any():
            raise ValueError("no pixel is a number")
        values = np.where(finite, values, values[finite].min())
    low, high = values.min(), values.max()
    if image.mode.startswith("I;16"):
        low, high = 0, _RANGES[2]
    else:
        held = [top for top in _RANGES[image.mode == "I" :] if low >= 0 and high <= top]
        low, high = (0, held[0]) if held else (low, high)
    scaled = np.rint((values - low) * (255 / max(high - low, 1e-300)))
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of mode RGB, L, CMYK or LAB as RGB; a profile that doesn't fit it is ignored."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is None and image.mode == "LAB":
        transform = _transform(None, "LAB")
    if transform is not None:
        return ImageCms.applyTransform(image, transform)  # type: ignore[return-value]
    return image.convert("RGB")


@functools.lru_cache(maxsize=16)  # a camera's pictures share a profile
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile (None: that of LAB) to sRGB; None where it is sRGB already or doesn't fit the mode."""
    try:
        if profile is None:
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
                return None
        # Without lcms's cache of one pixel, a transform may be used by several threads.
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB", flags=ImageCms.Flags.NOCACHE)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        log.info("Pictures: a colour profile is ignored (%s)", error)
        return None


def _upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    """The picture, turned as the EXIF data of the decoded image says."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF is written by everything, and no reason to refuse a picture
        return picture
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)
