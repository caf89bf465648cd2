"""The API over HTTP: captions, limits, and an answer that says why for everything that is refused."""

import asyncio
import io
import json
import logging
import struct
import zlib
from types import SimpleNamespace

import pytest
from helpers import CONF
from helpers.serving import PATH, FakeModel, ask, form, in_json, picture, service, web
from PIL import Image, ImageDraw

from autocaption.errors import UserError
from autocaption.serve.schemas import JsonRequest


def together(service, *requests):
    """Answers to requests that come at once, each as (status, headers, decoded body)."""

    async def run():
        app = web(service)
        async with service.running():
            answers = await asyncio.gather(*(ask(app, PATH, *request) for request in requests))
        return [(status, headers, json.loads(body)) for status, headers, body in answers]

    return asyncio.run(run())


def answered(request, **limits):
    """(status, body) of the answer to one request."""
    ((status, _, body),) = together(service(**limits), request)
    return status, body


def got(url, service_=None, method="GET"):
    return asyncio.run(ask(web(service_ or service()), url, method=method))


def test_a_file_and_base64_get_the_same_captions():
    expected = {
        "captions": [
            {"caption": "a red 255-0-0", "score": -1.0, "probability": 0.5},
            {"caption": "a red dog 255-0-0", "score": -2.0, "probability": 0.25},
        ],
        "attention": None,
    }
    for request in (form(picture(), k=2), in_json(picture(), k=2)):
        assert answered(request) == (200, expected)


def test_five_captions_unless_told_otherwise():
    assert len(answered(form(picture()))[1]["captions"]) == 5


def test_attention_where_it_is_asked_for_and_the_model_attends():
    status, body = answered(form(picture(), k=2, attention="true"))
    assert status == 200
    first = body["attention"][0]
    assert first["words"] == ["a", "red", "255-0-0"]
    assert (first["rows"], first["columns"], first["seen"]) == (2, 2, [0.125, 0, 0.875, 1])
    assert [word.index(max(word)) for word in first["weights"]] == [0, 1, 2]
    ((_, _, body),) = together(service(FakeModel(attends=False)), form(picture(), attention="true"))
    assert body["attention"] is None


@pytest.mark.parametrize(("fields", "settings"), [
    ({}, {"k": 5, "search": "beam"}),
    ({"search": "greedy"}, {"k": 1, "search": "greedy"}),
    (
        {"k": 3, "search": "sample", "temperature": 0.7},
        {"k": 3, "search": "sample", "temperature": 0.7},
    ),
])  # fmt: skip
def test_settings_reach_the_search(fields, settings):
    model = FakeModel()
    together(service(model), form(picture(), **fields))
    assert model.batches[1:] == [(1, settings)]


def test_every_search_of_conf_may_be_asked_for_and_no_other():
    names = sorted(file.stem for file in (CONF / "search").glob("*.yaml") if file.stem != "base")
    model = FakeModel()
    answers = together(service(model), *(form(picture(), search=name) for name in (*names, "x")))
    assert [status for status, *_ in answers] == [200] * len(names) + [422]
    assert sorted(settings["search"] for _, settings in model.batches[1:]) == names
    assert f"take {', '.join(names)}" in answers[-1][2]["error"]["message"]
    assert JsonRequest.model_json_schema()["properties"]["search"]["enum"] == names


def test_what_the_search_refuses_is_told():
    model = FakeModel()
    asked = service(model)
    model.caption = lambda *_, **__: (_ for _ in ()).throw(UserError("k=5: too many for this search"))
    ((status, _, body),) = together(asked, form(picture()))
    assert (status, body["error"]["message"]) == (422, "k=5: too many for this search")


def test_pictures_are_upright():
    image = Image.new("RGB", (40, 20), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, 19, 19), "red")  # the left half
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(file, "PNG", exif=exif)
    assert answered(form(file.getvalue(), k=1))[1]["captions"][0]["caption"] == "a red 0-0-255"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"])
def test_formats_are_known_by_content(format):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(file, format)
    assert answered(form(file.getvalue()))[0] == 200


def bomb():
    """A PNG of 100,000 x 100,000 pixels, as its header says."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + picture()[33:]


def twice(request):
    """A form with `k` in place of `K`, too."""
    return request[0].replace(b'"K"', b'"k"'), request[1]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
SMALL = picture()
REFUSED = {
    "no content type": ((b"x",), 415, "unsupported_request"),
    "another content type": ((b"x", "text/plain"), 415, "unsupported_request"),
    "no boundary": ((b"x", "multipart/form-data"), 400, "malformed"),
    "no multipart": ((b"x", "multipart/form-data; boundary=x"), 400, "malformed"),
    "no JSON": ((b"{", "application/json"), 400, "malformed"),
    "JSON of another shape": ((b"[]", "application/json"), 422, "invalid_setting"),
    "no picture": (form(None, k=1), 422, "no_picture"),
    "a picture in words": (form(None, image="dog"), 422, "no_picture"),
    "no base64": ((b'{"image": "?"}', "application/json"), 422, "invalid_setting"),
    "an empty file": (form(b""), 422, "empty"),
    "a text": (form(b"hello"), 415, "not_a_picture"),
    "a drawing of programs": (form(EPS), 415, "not_a_picture"),
    "a page": (form(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), 415, "not_a_picture"),
    "a truncated picture": (form(picture(size=(300, 300), format="JPEG")[:700]), 422, "broken_picture"),
    "many pixels": (form(picture(size=(2000, 2000))), 413, "too_many_pixels"),
    "a bomb": (form(bomb()), 413, "too_many_pixels"),
    "many bytes": (form(b"x" * 200_001), 413, "too_many_bytes"),
    "many bytes in base64": (in_json(b"x" * 200_001), 413, "too_many_bytes"),
    "k of none": (form(SMALL, k=0), 422, "invalid_setting"),
    "k of many": (form(SMALL, k=11), 422, "invalid_setting"),
    "k in words": (form(SMALL, k="x"), 422, "invalid_setting"),
    "another search": (form(SMALL, search="x"), 422, "invalid_setting"),
    "temperature of a beam": (form(SMALL, temperature=1), 422, "invalid_setting"),
    "temperature without end": (form(SMALL, search="sample", temperature="inf"), 422, "invalid_setting"),
    "an unknown field": (form(SMALL, size=1), 422, "invalid_setting"),
    "a field twice": (twice(form(SMALL, k=1, K=2)), 422, "invalid_setting"),
    "too many fields": (form(SMALL, **{f"f{i}": 1 for i in range(20)}), 400, "malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    request, status, code = REFUSED[name]
    model = FakeModel()
    (answer,) = together(service(model), request)
    assert (answer[0], answer[2]["error"]["code"]) == (status, code)
    assert len(answer[2]["error"]["message"]) > 10
    assert len(model.batches) == 1  # that of the start


def test_settings_in_the_address_are_refused():
    async def run():
        asked = service()
        async with asked.running():
            return await ask(web(asked), f"{PATH}?k=1", *form(SMALL))

    status, _, body = asyncio.run(run())
    assert (status, json.loads(body)["error"]["code"]) == (422, "invalid_setting")
    assert json.loads(body)["error"]["message"].startswith("k: send settings in the form")


def test_a_body_is_read_up_to_its_limit():
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1
            yield b"x" * 50_000

    async def run():
        asked = service(max_bytes=200_000)
        async with asked.running():
            return await ask(web(asked), PATH, kind="application/json", chunks=endless())

    status, _, body = asyncio.run(run())
    assert (status, json.loads(body)["error"]["code"]) == (413, "too_many_bytes")
    assert read == 6  # base64 of 200,000 bytes, and a little


def test_a_body_that_announces_too_much_is_not_read():
    async def nothing():
        raise AssertionError("read")
        yield b""

    async def run():
        headers = [("content-length", "99999999999999999999999")]
        asked = service()
        async with asked.running():
            return await ask(web(asked), PATH, kind="application/json", chunks=nothing(), headers=headers)

    assert asyncio.run(run())[0] == 413


def test_a_body_that_never_ends_frees_its_place():
    async def slow():
        yield b"{"
        await asyncio.Event().wait()

    async def run():
        asked = service(arrival=0.05)
        async with asked.running():
            answer = await ask(web(asked), PATH, kind="application/json", chunks=slow())
        return answer, asked.admission.taken

    (status, _, body), taken = asyncio.run(run())
    assert (status, json.loads(body)["error"]["code"], taken) == (408, "too_slow", 0)


def held(model, asked, then):
    """Runs `then(app)` while the model is busy with a first request; lets it go on after that."""

    async def run():
        app = web(asked)
        async with asked.running():
            first = asyncio.create_task(ask(app, PATH, *form(picture())))
            await asyncio.get_running_loop().run_in_executor(None, model.working.wait, 20)
            result = await then(app)
            model.go.set()
            return await first, result

    return asyncio.run(run())


def test_requests_that_come_together_are_captioned_together():
    model = FakeModel(waits=True)
    asked = service(model)
    colours = [f"#0{i}0000" for i in range(10)]

    async def crowd(app):
        tasks = [asyncio.create_task(ask(app, PATH, *form(picture(one), k=1))) for one in colours]
        while len(asked._batcher._waiting) < len(tasks):
            await asyncio.sleep(0.001)
        model.go.set()
        return await asyncio.gather(*tasks)

    _, answers = held(model, asked, crowd)
    assert [count for count, _ in model.batches] == [1, 1, 10]
    captions = [json.loads(body)["captions"][0]["caption"] for _, _, body in answers]
    assert captions == [f"a red {i}-0-0" for i in range(10)]


def test_a_full_queue_says_when_to_come_again():
    model = FakeModel(waits=True)
    asked = service(model, places=1)

    async def another(app):
        return await ask(app, PATH, *form(picture()))

    first, (status, headers, body) = held(model, asked, another)
    assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
    assert int(headers["retry-after"]) > 0
    assert first[0] == 200
    assert asked.admission.taken == 0


def test_a_client_that_goes_away_frees_its_place():
    model = FakeModel(waits=True)
    asked = service(model)

    async def leaving(app):
        gone = asyncio.Event()
        task = asyncio.create_task(ask(app, PATH, *form(picture("blue")), gone=gone))
        while not asked._batcher._waiting:
            await asyncio.sleep(0.001)
        gone.set()
        await task
        return asked.admission.taken

    first, taken = held(model, asked, leaving)
    assert taken == 1  # the first's
    assert first[0] == 200
    assert len(model.batches) == 2  # the start and the first


def test_an_answer_that_takes_too_long_is_not_waited_for():
    model = FakeModel(waits=True)
    asked = service(model, seconds=0.05)

    async def nothing(app):
        await asyncio.sleep(0.1)

    (status, _, body), _ = held(model, asked, nothing)
    assert (status, json.loads(body)["error"]["code"]) == (504, "timeout")
    assert asked.admission.taken == 0


def test_an_unforeseen_error_tells_nothing(caplog):
    model = FakeModel()
    asked = service(model)
    model.caption = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("/srv/secret.py"))

    async def run():
        async with asked.running():
            answers = []
            app = web(asked)

            async def caught(scope, receive, send):
                try:
                    await app(scope, receive, send)
                except RuntimeError:  # uvicorn logs it
                    answers.append("raised")

            answer = await ask(caught, PATH, *form(picture()))
            return answer, answers, await ask(app, "/api/health", method="GET")

    with caplog.at_level(logging.CRITICAL):
        (status, headers, body), raised, (healthy, *_) = asyncio.run(run())
    assert (status, json.loads(body)["error"]["code"], raised, healthy) == (500, "internal", ["raised"], 200)
    assert b"secret" not in body
    assert "content-security-policy" in headers


@pytest.mark.parametrize(("url", "method", "status"), [
    ("/nothing", "GET", 404), ("/api/caption", "GET", 405), ("/../../etc/passwd", "GET", 404),
])  # fmt: skip
def test_there_is_no_such_thing(url, method, status):
    found, headers, body = got(url, method=method)
    assert found == status
    assert json.loads(body)["error"]["message"]
    assert headers["content-type"] == "application/json"


def test_health_tells_the_limits():
    status, _, body = got("/api/health")
    assert status == 200
    assert json.loads(body) == {
        "status": "ok", "attends": True, "max_bytes": 200_000, "max_pixels": 1_000_000,
        "in_work": 0, "places": 64,
    }  # fmt: skip


def test_prometheus_counts_answers_and_batches():
    asked = service()
    together(asked, form(picture()), form(b"hello"))
    _, headers, body = got("/metrics", asked)
    lines = body.decode().splitlines()
    assert headers["content-type"].startswith("text/plain")
    for line in (
        'autocaption_answers_total{status="200"} 1.0',
        'autocaption_answers_total{status="415"} 1.0',
        "autocaption_answer_seconds_count 2.0",
        "autocaption_batch_size_sum 1.0",
        "autocaption_in_work 0.0",
    ):
        assert line in lines


def test_openapi_documents_every_refusal():
    openapi = json.loads(got("/api/openapi.json")[2])
    documented = openapi["paths"]["/api/caption"]["post"]
    for name, (_, status, code) in REFUSED.items():
        examples = documented["responses"][str(status)]["content"]["application/json"]["examples"]
        assert code in examples, name
    assert {"503", "504", "408"} <= set(documented["responses"])
    body = documented["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    example = body["application/json"]["examples"]["beam"]["value"]
    assert answered((json.dumps(example).encode(), "application/json"))[0] == 200


def test_every_answer_binds_the_browser():
    for url in ("/", "/page.js", "/api/health", "/nothing", "/metrics"):
        headers = SimpleNamespace(**{k.replace("-", "_"): v for k, v in got(url)[1].items()})
        policy = dict(part.split(" ", 1) for part in headers.content_security_policy.split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert "unsafe" not in headers.content_security_policy
        assert headers.x_content_type_options == "nosniff"
