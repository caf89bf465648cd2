"""What OpenAPI tells of a caption request: the ways to send it, and what it is refused for."""

from http import HTTPStatus
from typing import Any

from autocaption.serve.refusals import Refusal
from autocaption.serve.schemas import JsonRequest

# The smallest PNG: one white pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAGK6G+gAAAABJRU5ErkJggg=="


def _multipart() -> dict[str, Any]:
    schema = JsonRequest.model_json_schema()
    schema["properties"]["image"] = {
        "type": "string",
        "format": "binary",
        "description": "The picture's file: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.",
    }
    return schema


REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _multipart()},
            "application/json": {
                "schema": JsonRequest.model_json_schema(),
                "examples": {
                    "beam": {"value": {"image": PIXEL, "k": 5}},
                    "sample": {"value": {"image": PIXEL, "k": 3, "search": "sample", "temperature": 0.7}},
                },
            },
        },
    }
}

_EXAMPLES: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.BAD_REQUEST: {"malformed": "Missing boundary in multipart."},
    HTTPStatus.REQUEST_TIMEOUT: {
        "too_slow": "The picture did not arrive within 30 seconds. Try a smaller one."
    },
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {
        "too_many_bytes": "The file is larger than 10 MB. Make it smaller, and try again.",
        "too_many_pixels": "The picture has more than 50 million pixels. Make it smaller, and try again.",
    },
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {
        "unsupported_request": "Send multipart/form-data with a file `image`, or JSON.",
        "not_a_picture": "This file is not a picture that can be read here.",
    },
    HTTPStatus.UNPROCESSABLE_ENTITY: {
        "invalid_setting": "k: Input should be less than or equal to 10",
        "broken_picture": "The picture is damaged and can't be decoded. Try another one.",
        "empty": "The file is empty. Choose another one.",
        "no_picture": "image: send a file here",
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {"busy": "Too many pictures are waiting. Try again in a moment."},
    HTTPStatus.GATEWAY_TIMEOUT: {"timeout": "There was no answer within 30 seconds. Try again in a moment."},
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    int(status): {
        "model": Refusal,
        "description": status.phrase,
        "content": {
            "application/json": {
                "examples": {
                    code: {"value": {"error": {"code": code, "message": message}}}
                    for code, message in refusals.items()
                }
            }
        },
    }
    for status, refusals in _EXAMPLES.items()
}
