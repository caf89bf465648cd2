"""A service around a model that is made up, so that each answer is known."""

import asyncio
import base64
import functools
import io
import json
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from PIL import Image

from autocaption.data.given_pictures import opened
from autocaption.errors import UserError
from autocaption.serve.app import application
from autocaption.serve.assets import assets, samples
from autocaption.serve.captioning import Captioning
from autocaption.serve.service import Service
from autocaption.serve.uploads import Limits

PATH = "/api/caption"
WORDS = ("a", "red", "dog", "runs", "fast")


class FakeModel:
    """Its captions end with the colour of the picture's top left pixel; word i looks at place i.

    Attributes:
        batches: [(number of pictures, settings)], as they came; the first is that of the start.
        working: set while it captions.
        go: it waits for this before it captions, but not at the start.
    """

    def __init__(self, attends=True, waits=False):
        self.attends, self.batches = attends, []
        self.working, self.go = threading.Event(), threading.Event()
        if not waits:
            self.go.set()

    def prepare(self, image, name=None, max_pixels=None):
        return np.asarray(opened(image, name, None, max_pixels or 10**9))

    def caption(self, images, k, search, batch_size, **settings):
        self.batches.append((len(images), {"k": k, "search": search, **settings}))
        if len(self.batches) > 1:
            self.working.set()
            assert self.go.wait(20)
        return [[self._caption(image, i) for i in range(k)] for image in images]

    def _caption(self, image, i):
        text = f"{' '.join(WORDS[: i + 2])} {'-'.join(map(str, image[0, 0]))}"
        return SimpleNamespace(text=text, score=-float(i + 1), probability=0.5 ** (i + 1))

    def attention(self, image, caption):
        if not self.attends:
            raise UserError("it doesn't attend")
        return [self._attention(one.text.split()) for one in caption]

    def _attention(self, words):
        maps = np.full((len(words), 2, 2), 0.1, np.float32)
        for i, one in enumerate(maps):
            one.flat[i % 4] = 0.7
        return SimpleNamespace(words=words, maps=maps, seen=(0.125, 0.0, 0.875, 1.0))


def service(model=None, *, max_bytes=200_000, max_pixels=1_000_000, arrival=5.0, **changes):
    """A Service around a model, with small limits."""
    settings = {"places": 64, "batch_size": 16, "window": 0.0, "seconds": 20.0, **changes}
    captioning = Captioning(model or FakeModel(), picture())
    return Service(captioning, Limits(max_bytes, max_pixels, arrival), **settings)


def web(service):
    """The application of a service."""
    return application(service, page(service.limits, service.captioning.attends))


@functools.cache
def page(limits, attends):
    """The files of the page."""
    return assets(samples(), limits=limits, attends=attends)


def picture(colour="red", size=(40, 30), format="PNG", **saved):
    """A picture's file."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format, **saved)
    return file.getvalue()


def form(file, /, boundary="x", **fields):
    """(body, content type) of a multipart request."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    if file is not None:
        parts.append(b'name="image"; filename="a"\r\n\r\n' + file)
    mark = f"--{boundary}".encode()
    lines = b"".join(mark + b"\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
    return lines + mark + b"--\r\n", f"multipart/form-data; boundary={boundary}"


def in_json(file, /, **fields):
    """(body, content type) of a request in JSON."""
    return json.dumps({"image": base64.b64encode(file).decode(), **fields}).encode(), "application/json"


async def ask(app, path, body=b"", kind=None, method="POST", chunks=None, gone=None, headers=()):
    """(status, headers, body) of the answer to a request, without a network.

    Args:
        chunks: an async iterator of the body's parts, in place of `body`.
        gone: an asyncio.Event; when it is set, the client has gone away.
    """
    gone, answer, sent = gone or asyncio.Event(), {"body": b""}, False

    async def receive():
        nonlocal sent
        if chunks is not None and not sent:
            chunk = await anext(chunks, None)
            sent = chunk is None
            return {"type": "http.request", "body": chunk or b"", "more_body": not sent}
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
            answer["headers"] = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer["body"] += message.get("body", b"")

    named = [*headers, *([("content-type", kind)] if kind else [])]
    url = urlsplit(path)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": url.path, "raw_path": url.path.encode(), "root_path": "",
        "query_string": url.query.encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named],
    }  # fmt: skip
    await app(scope, receive, send)
    return answer["status"], answer["headers"], answer["body"]


@contextmanager
def running(app):
    """The address of an application that uvicorn serves on a free port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    ready = threading.Event()
    startup = server.startup

    async def started(sockets=None):
        await startup(sockets)
        ready.set()

    server.startup = started
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
