"""Reading a request: as many bytes as are allowed, then its picture, before anything is decoded in full."""

import asyncio
import base64
import binascii
import io
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from PIL import Image
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from autocaption.serve.refusals import RequestError, invalid
from autocaption.serve.schemas import JsonRequest, Settings

# Formats that describe pixels, found by content. Others are left out since Pillow hands some of them
# (EPS) to programs that run what the file says.
READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
Image.init()
FORMATS = [name for name in re.findall(r"[A-Z]+", READABLE.upper()) if name in Image.OPEN]
SPARE = 2**14  # bytes of a request beside its picture
FIELDS = 8


@dataclass(frozen=True)
class Limits:
    """What an upload may cost.

    Attributes:
        max_bytes: of a picture's file.
        max_pixels: of a picture, read from its header.
        seconds: for a request to arrive.
    """

    max_bytes: int
    max_pixels: int
    seconds: float


@dataclass(frozen=True)
class Upload:
    """A picture's file, and how to caption it."""

    data: bytes
    settings: Settings


async def read_upload(request: Request, limits: Limits) -> Upload:
    """The picture and the settings of a request, in multipart or JSON.

    Raises:
        RequestError: the request is too large, too slow, malformed, or asks for what there is not.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/json"):
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_request",
            "Send multipart/form-data with a file `image`, or JSON with `image` in base64.",
        )
    if request.query_params:  # nothing reads them there
        names = ", ".join(request.query_params.keys())
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_setting",
            f"{names}: send settings in the form or the JSON, not in the address",
        )
    # base64 writes three bytes as four.
    most = limits.max_bytes + SPARE if kind == "multipart/form-data" else limits.max_bytes * 4 // 3 + SPARE
    try:
        async with asyncio.timeout(limits.seconds):
            body = await _body(request, most, limits)
    except TimeoutError:
        raise RequestError(
            HTTPStatus.REQUEST_TIMEOUT,
            "too_slow",
            f"The picture did not arrive within {limits.seconds:g} seconds. Try a smaller one.",
        ) from None
    try:
        upload = await _from_form(request, body) if kind == "multipart/form-data" else _from_json(body)
    except ValidationError as error:
        raise invalid(error) from None
    if len(upload.data) > limits.max_bytes:
        raise _too_large(limits)
    if not upload.data:
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "empty", "The file is empty. Choose another one.")
    return upload


async def _body(request: Request, most: int, limits: Limits) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise _too_large(limits)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _too_large(limits)
    return bytes(body)


def _too_large(limits: Limits) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_bytes",
        f"The file is larger than {limits.max_bytes / 1e6:.3g} MB. Make it smaller, and try again.",
    )


def _from_json(body: bytes) -> Upload:
    asked = JsonRequest.model_validate_json(body)
    try:
        data = base64.b64decode(asked.image, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_setting",
            "image: this is not base64; leave out a `data:` before it",
        ) from None
    return Upload(data, Settings(**asked.model_dump(exclude={"image"})))


async def _from_form(request: Request, body: bytes) -> Upload:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=1, max_fields=FIELDS, max_part_size=SPARE)
    parser.spool_max_size = len(body) + 1  # stays in memory, which `body` has bounded
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, "malformed", error.message) from None
    try:
        fields: dict[str, Any] = dict(form)
        if twice := next((name for name in fields if len(form.getlist(name)) > 1), None):
            raise RequestError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_setting", f"{twice}: send this field once"
            )
        image = fields.pop("image", None)
        if not isinstance(image, UploadFile):
            raise RequestError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "no_picture", "image: send a file in this field"
            )
        if any(isinstance(value, UploadFile) for value in fields.values()):
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_setting", "only image is a file")
        return Upload(await image.read(), Settings.model_validate_strings(fields))
    finally:
        await form.close()


def check_picture(data: bytes, limits: Limits) -> None:
    """Read a picture's header; nothing is decoded.

    Raises:
        RequestError: the file is no picture, by its content, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError:  # Pillow's own limit, at twice ours
        raise _too_many_pixels(limits) from None
    except Exception:  # a malformed file can make Pillow raise nearly anything
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not_a_picture",
            f"This file is not a picture that can be read here. Take one in {READABLE}.",
        ) from None
    if width * height > limits.max_pixels:
        raise _too_many_pixels(limits)


def broken_picture() -> RequestError:
    """A picture whose header is sound but not the rest."""
    return RequestError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "broken_picture",
        "The picture is damaged and can't be decoded. Try another one.",
    )


def _too_many_pixels(limits: Limits) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_pixels",
        f"The picture has more than {limits.max_pixels / 1e6:.3g} million pixels. "
        "Make it smaller, and try again.",
    )
