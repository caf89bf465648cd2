"""A request's way: a place, its upload, the picture, a batch, captions."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect, Request

from autocaption.errors import UserError
from autocaption.machine import cores
from autocaption.serve.admission import Admission
from autocaption.serve.batcher import Batcher
from autocaption.serve.captioning import Captioning, Picture
from autocaption.serve.refusals import RequestError
from autocaption.serve.schemas import Answer
from autocaption.serve.telemetry import Telemetry
from autocaption.serve.uploads import Limits, Upload, broken_picture, check_picture, read_upload


class Service:
    """Answers uploads, many at a time.

    Args:
        captioning: the model.
        limits: of an upload.
        places: the most requests in work.
        batch_size: the most pictures that are captioned together.
        window: seconds that a picture waits for company.
        seconds: from a picture's arrival to its answer, at most.

    Attributes:
        telemetry: what Prometheus is told.
    """

    def __init__(
        self,
        captioning: Captioning,
        limits: Limits,
        places: int,
        batch_size: int,
        window: float,
        seconds: float,
    ) -> None:
        self.captioning, self.limits, self.seconds = captioning, limits, seconds
        self.admission = Admission(places)
        self.telemetry = Telemetry(in_work=lambda: self.admission.taken)
        self._batcher = Batcher[Picture, Answer](self._batch, batch_size, window)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works while the block lasts."""
        with ThreadPoolExecutor(cores(), "decoder") as self._decoders:
            working = asyncio.create_task(self._batcher.run())
            try:
                yield
            finally:
                working.cancel()

    async def answer(self, request: Request) -> Answer:
        """The captions of a request's picture.

        Raises:
            RequestError: the request is refused.
            ClientDisconnect: nobody waits for the answer any more.
        """
        with self.admission.place():
            upload = await read_upload(request, self.limits)
            return await _unless_gone(request, self._captioned(upload))

    async def _captioned(self, upload: Upload) -> Answer:
        loop, asked = asyncio.get_running_loop(), upload.settings
        try:
            async with asyncio.timeout(self.seconds):
                prepared = await loop.run_in_executor(self._decoders, self._prepared, upload.data)
                picture = Picture(prepared, asked.attention)
                return await self._batcher(picture, asked.model_copy(update={"attention": False}))
        except TimeoutError:
            raise RequestError(
                HTTPStatus.GATEWAY_TIMEOUT,
                "timeout",
                f"There was no answer within {self.seconds:g} seconds. Try again in a moment.",
            ) from None

    def _batch(self, pictures: Sequence[Picture], settings: Any) -> list[Answer]:
        self.telemetry.batch_size.observe(len(pictures))
        return self.captioning(pictures, settings)

    def _prepared(self, data: bytes) -> Any:
        check_picture(data, self.limits)
        try:
            return self.captioning.model.prepare(data, "upload", self.limits.max_pixels)
        except UserError:
            raise broken_picture() from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of the work, which is cancelled when the client goes away."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
