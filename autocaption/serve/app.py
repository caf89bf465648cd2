"""The web application: its routes and their documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from autocaption import __version__
from autocaption.serve.assets import Asset
from autocaption.serve.edge import GONE, Edge
from autocaption.serve.openapi import REFUSALS, REQUEST
from autocaption.serve.refusals import answer_errors
from autocaption.serve.schemas import Answer, Health
from autocaption.serve.service import Service

CAPTION = "/api/caption"


def application(service: Service, files: dict[str, Asset]) -> ASGIApp:
    """The service over HTTP.

    Args:
        service: answers the requests.
        files: the page, by path.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="autocaption",
        version=__version__,
        description="Captions of pictures.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # which loads scripts of other hosts
        redoc_url=None,
        lifespan=lifespan,
    )
    answer_errors(app)

    @app.post(CAPTION, summary="Caption a picture", responses=REFUSALS, openapi_extra=REQUEST)
    async def caption(request: Request) -> Answer:
        """The most likely captions of a picture, the best one first."""
        return await service.answer(request)

    @app.get("/api/health", summary="Whether the service is up, and what it takes")
    async def health() -> Health:
        return Health(
            attends=service.captioning.attends,
            max_bytes=service.limits.max_bytes,
            max_pixels=service.limits.max_pixels,
            in_work=service.admission.taken,
            places=service.admission.places,
        )

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.telemetry.text(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)

    for path, file in files.items():
        app.add_route("/" if path == "index.html" else f"/{path}", _sent(file), ["GET"])
    return Edge(app, service.telemetry, CAPTION)


def _sent(file: Asset) -> Any:
    async def send(request: Request) -> Response:
        return Response(file.content, media_type=file.kind)

    return send
