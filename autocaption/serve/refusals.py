"""What a request can be refused for: each answer names a code for programs and says in words what to do."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

RETRY_AFTER = 1  # seconds; a full queue is worked off in about as many


class Error(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="A word for programs; it stays the same.")
    message: str = Field(description="A sentence for people: what is wrong, and what to do.")


class Refusal(BaseModel):
    """The body of every answer that is not a success."""

    error: Error


class RequestError(Exception):
    """Ends a request with an answer that says why.

    Args:
        status: the HTTP status.
        code: a word for programs.
        message: a sentence for people.
    """

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def answer(self) -> JSONResponse:
        """The answer to send."""
        return refusal(self.status, self.code, self.message)


def invalid(error: ValidationError) -> RequestError:
    """A field of the request has a value that it can't have."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ")
    malformed = first["type"] == "json_invalid"
    status = HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
    return RequestError(
        status, "malformed" if malformed else "invalid_setting", f"{where}: {said}" if where else said
    )


def refusal(status: int, code: str, message: str, headers: Any = None) -> JSONResponse:
    """An answer in the one form that all refusals have."""
    added = {"Retry-After": str(RETRY_AFTER)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    body = Refusal(error=Error(code=code, message=message))
    return JSONResponse(body.model_dump(), status, {**(headers or {}), **added})


def answer_errors(app: FastAPI) -> None:
    """Give every error of an app an answer of this form; none tells about files or code."""

    @app.exception_handler(RequestError)
    async def problem(request: Request, error: RequestError) -> JSONResponse:
        return error.answer()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "_")
        return refusal(status, code, f"{status.phrase}.", error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_setting", "The request has a wrong value.")

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        message = "Something went wrong here, not with your picture. The server's log says what."
        return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message)
