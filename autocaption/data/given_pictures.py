"""Pictures as people give them: files, their content, and what other libraries hold.

Legend: H height, W width, C channels.
"""

import io
import os
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from autocaption.data.pictures import MAX_PIXELS, DecodeError, TooLargeError, as_shown
from autocaption.errors import UserError


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading, in binary mode."""

    def read(self) -> bytes:
        """The rest of its content."""
        ...


Content = bytes | bytearray | memoryview
GivenPicture = str | os.PathLike[str] | Content | Readable | Image.Image | np.ndarray | Tensor


def opened(
    picture: GivenPicture, name: str | None = None, least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """A picture in RGB, decoded as in training whatever it comes as.

    Args:
        picture: a path, an open file, the content of a file, a picture of Pillow, a uint8 array (H, W, C) or
            (H, W), or a uint8 tensor (C, H, W); C is 1, 3 or 4.
        name: what errors call it; None for its path or its kind.
        least: a side in pixels; a larger JPEG may be decoded at a fraction of its size, with no side shorter.
        max_pixels: a picture of more pixels is refused before it is decoded.

    Raises:
        UserError: it cannot be read, or is none of these.
    """
    is_path = isinstance(picture, str | os.PathLike)
    name = name or (str(picture) if is_path else f"a picture ({type(picture).__name__})")
    try:
        if isinstance(picture, str | os.PathLike):
            with _file(Path(picture)) as file:
                return as_shown(file, least, max_pixels)
        if isinstance(picture, Image.Image):
            if 0 in picture.size:
                raise DecodeError(f"it has {picture.width} x {picture.height} pixels")
            return as_shown(picture, least, max_pixels)
        if isinstance(picture, Readable):
            picture = _content(picture, name)
        if isinstance(picture, Content):
            return as_shown(bytes(picture), least, max_pixels)
        return as_shown(_image_of(picture, name), None, max_pixels)
    except FileNotFoundError:
        raise UserError(f"picture not found: {name}; check the path") from None
    except OSError as error:
        raise UserError(f"cannot read the picture {name}: {error.strerror or error}") from None
    except TooLargeError as error:
        raise UserError(f"picture too large: {name}: {error}; make it smaller") from None
    except DecodeError as error:
        raise UserError(f"broken picture: {name}: {error}") from None


def _file(path: Path) -> BinaryIO:
    try:
        return open(path.expanduser(), "rb")
    except (ValueError, RuntimeError) as error:  # a null character; ~somebody
        raise OSError(str(error)) from None


def _content(file: Readable, name: str) -> bytes:
    as_text = f"{name} is open as text; open it in binary mode, with open(PATH, 'rb')"
    if isinstance(file, io.TextIOBase):  # which may not even be able to read it
        raise UserError(as_text)
    try:
        content = file.read()
    except ValueError as error:  # it is closed
        raise OSError(str(error)) from None
    if not isinstance(content, bytes):
        raise UserError(as_text)
    return content


def _image_of(pixels: object, name: str) -> Image.Image:
    if isinstance(pixels, Tensor):
        kind, shape, is_uint8 = "tensor (C, H, W)", tuple(pixels.shape), pixels.dtype == torch.uint8
        channels = pixels.shape[0] if pixels.ndim == 3 else None
    elif isinstance(pixels, np.ndarray):
        kind, shape, is_uint8 = "array (H, W, C) or (H, W)", pixels.shape, pixels.dtype == np.uint8
        channels = 1 if pixels.ndim == 2 else pixels.shape[2] if pixels.ndim == 3 else None
    else:
        raise UserError(
            f"{name} is no picture; give a path, bytes, a PIL image, a uint8 array (H, W, C) or a uint8 "
            "tensor (C, H, W)"
        )
    if not is_uint8 or channels not in (1, 3, 4) or 0 in shape:
        raise UserError(
            f"{name} has shape {shape} and type {pixels.dtype}; take a uint8 {kind} of 1, 3 or 4 channels, "
            "or a list of them"
        )
    array = pixels.permute(1, 2, 0).cpu().numpy() if isinstance(pixels, Tensor) else pixels
    return Image.fromarray(
        np.ascontiguousarray(array[..., 0] if channels == 1 and array.ndim == 3 else array)
    )
