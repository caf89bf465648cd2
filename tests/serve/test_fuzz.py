"""Whatever is sent, the answer says what is wrong with it, and the service stays as it is."""

import asyncio
import io
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.serving import PATH, ask, form, in_json, picture, running, service, web
from PIL import Image

CUTS = (0, 1, 20, 100, 1000)
KINDS = (
    "application/json",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
    "\xff",
)


def pictures():
    image = Image.effect_noise((48, 32), 60).convert("RGB")
    for format in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"):
        file = io.BytesIO()
        image.save(file, format)
        yield file.getvalue()


def damaged(draw, data):
    """The bytes with some of them changed, cut, repeated or put in from elsewhere."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 30))):
        at, length = draw.randrange(len(data) + 1), draw.choice(CUTS)
        kind = draw.randrange(5)
        if kind == 0 and at < len(data):
            data[at] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = draw.randbytes(length)
        elif kind == 3:
            data[at:at] = data[:length]
        else:
            del data[at:]
    return bytes(data)


def malformed(draw, valid):
    """(body, content type) of a request that has something wrong with it, most likely."""
    image = draw.choice(valid)
    kind = draw.randrange(6)
    if kind == 0:
        return form(damaged(draw, image))
    if kind == 1:
        return in_json(damaged(draw, image))
    body, type_ = draw.choice((form, in_json))(image, k=2)
    if kind == 2:
        return damaged(draw, body), type_
    if kind == 3:
        return damaged(draw, body), draw.choice(KINDS)
    if kind == 4:
        return draw.randbytes(draw.choice(CUTS)), draw.choice(KINDS)
    name = draw.choice(("k", "search", "temperature", "attention", "image", "é", "k\0"))
    value = draw.choice((-1, "", "x", 1e300, "\ud800", [], {}, None, "9" * 5000, True, 10**400))
    if draw.random() < 0.5:
        fields = {name: str(value).encode("utf-8", "replace").decode()}
        return form(image, **fields) if name != "image" else form(None, **fields)
    return json.dumps({"image": "AAAA", name: value}).encode(), "application/json"


def resident_megabytes():
    """Of this process; 0 where the system doesn't tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6 if statm.exists() else 0


async def sent(app, count, draw):
    """How many were refused, and the megabytes of the process after a fifth of them and at the end."""
    valid, refused, early = list(pictures()), 0, 0.0
    while refused < count:
        body, kind = malformed(draw, valid)
        status, _, answer = await ask(app, PATH, body, kind)
        assert status == 200 or 400 <= status < 500, (status, kind, body)
        if status != 200:
            assert json.loads(answer)["error"]["message"]
            refused += 1
        if not early and refused >= count // 5:
            early = resident_megabytes()
    return early, resident_megabytes()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_malformed_requests_are_refused_and_leave_no_trace(count):
    async def run():
        asked = service(arrival=20.0)
        async with asked.running():
            app = web(asked)
            early, late = await sent(app, count, random.Random(0))
            assert (await ask(app, PATH, *form(picture())))[0] == 200
        return early, late, asked.admission.taken

    early, late, taken = asyncio.run(run())
    assert taken == 0
    assert late - early < 30


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path):
    pytest.importorskip("schemathesis", reason="pip install schemathesis")
    with running(web(service(arrival=20.0))) as url:
        words = ("run", f"{url}/api/openapi.json", "--max-examples", "300", "--seed", "1")
        # A schema can't say what is a picture, so that what fits it may be refused.
        words += ("--exclude-checks", "positive_data_acceptance")
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *words], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stdout + done.stderr
