"""A service around a model that is made up, so that each answer is known."""

import asyncio
import io
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import uvicorn
from PIL import Image

from autocaption.errors import UserError
from autocaption.serve.app import application
from autocaption.serve.assets import assets, samples
from autocaption.serve.captioning import Captioning
from autocaption.serve.service import Service
from autocaption.serve.uploads import Limits

WORDS = ("a", "red", "dog", "runs", "fast")


class FakeModel:
    """Its k-th caption has the mean colour of the picture and k words; word i looks at place i.

    Attributes:
        batches: [(number of pictures, settings)], as they came.
    """

    def __init__(self, attends=True):
        self.attends, self.batches = attends, []

    def prepare(self, image, name=None, max_pixels=None):
        try:
            with Image.open(io.BytesIO(image)) as picture:
                return np.asarray(picture.convert("RGB"))
        except Exception as error:
            raise UserError(f"broken picture: {name}: {error}") from None

    def caption(self, images, k, search, batch_size, **settings):
        self.batches.append((len(images), {"k": k, "search": search, **settings}))
        return [[self._caption(image, i) for i in range(k)] for image in images]

    def _caption(self, image, i):
        text = f"{' '.join(WORDS[: i + 2])} {'-'.join(str(round(c)) for c in image.mean((0, 1)))}"
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
    return application(service, assets(samples(), limits=service.limits, attends=service.captioning.attends))


def picture(colour="red", size=(40, 30), format="PNG", **saved):
    """A picture's file."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format, **saved)
    return file.getvalue()


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
