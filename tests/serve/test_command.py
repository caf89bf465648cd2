"""`python -m autocaption.serve`: it starts, says where it is, stops in good order, and fails in one line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import PATIENCE, ROOT
from helpers.commands import TINY
from helpers.configs import composed
from helpers.scripts import run_here
from helpers.serving import FakeModel, form, picture, running, service, web

import autocaption
from autocaption import build


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    torch.manual_seed(0)
    narrow = [word for word in TINY if "width" not in word]
    attends = ("model=show_attend_tell", "model.decoder.attention_dim=8", "model.encoder.width=4")
    _, captioner = build.from_config(composed(*narrow, *attends, "logger=none", f"run_dir={folder}").copy())
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, folder / "best.ckpt")
    return folder / "best.ckpt"


def post(url, **fields):
    body, kind = form(picture("blue"), **fields)
    request = urllib.request.Request(f"{url}/api/caption", body, {"content-type": kind})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_it_serves_a_checkpoint_until_it_is_told_to_stop(checkpoint):
    words = ("--checkpoint", checkpoint, "--port", "0", "--device", "cpu")
    process = subprocess.Popen(
        [sys.executable, "-m", "autocaption.serve", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", line)
        found = post(url, k=3, attention="true")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, 143, -signal.SIGTERM)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.stderr.close()
    expected = autocaption.load(checkpoint, device="cpu").caption(picture("blue"), k=3, search="beam")
    assert [one["caption"] for one in found["captions"]] == [one.text for one in expected]
    assert [one["probability"] for one in found["captions"]] == pytest.approx(
        [one.probability for one in expected], rel=1e-4
    )
    assert [one["words"] for one in found["attention"]] == [one.words for one in expected]


def test_a_model_of_several_encoders_is_served(tmp_path, monkeypatch):
    import uvicorn

    served = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: served.extend(sockets))
    sources = [f"model.encoder.sources.{name}" for name in ("first", "second")]
    words = (
        *("model=transformer", "model/encoder=concat", "model.decoder.width=16", "model.decoder.heads=2"),
        *("model.decoder.layers=1", f"{sources[0]}.name=test_vit", f"{sources[1]}.name=mobilenet_v3_small"),
        *(f"{one}.pretrained=false" for one in sources),
        *(f"{one}.image_size={size}" for one, size in zip(sources, (64, 96), strict=True)),
    )
    plain = [word for word in TINY if not word.startswith("model.")]
    _, captioner = build.from_config(composed(*plain, *words, "logger=none", f"run_dir={tmp_path}").copy())
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, tmp_path / "best.ckpt")
    words = ("--checkpoint", "best.ckpt", "--port", "0", "--device", "cpu")
    done = run_here("-m", "autocaption.serve", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (listening,) = served
    listening.close()


def test_a_request_in_work_is_answered_before_the_end():
    model = FakeModel(waits=True)

    def let_go_once_closed(port):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                return model.go.set()

    with ThreadPoolExecutor() as threads:
        with running(web(service(model))) as url:
            answer = threads.submit(post, url, k=1)
            assert model.working.wait(20)
            threads.submit(let_go_once_closed, int(url.rpartition(":")[2]))
        assert answer.result(20)["captions"][0]["caption"] == "a red 0-0-255"


@pytest.mark.parametrize(("words", "said"), [
    ((), "nothing.ckpt"),
    (("--queue", "0"), "--queue=0: take a whole number, 1 or more"),
    (("--batch-size", "0"), "--batch-size=0"),
    (("--batch-window", "-1"), "--batch-window=-1"),
    (("--timeout", "0"), "--timeout=0"),
    (("--max-megabytes", "0"), "--max-megabytes=0"),
    (("--max-megapixels", "nan"), "--max-megapixels=nan"),
    (("--port", "70000"), "--port=70000"),
    (("--host", "256.1.1.1"), "check --host and --port"),
])  # fmt: skip
def test_a_mistake_is_told_in_one_line(tmp_path, words, said):
    done = run_here(
        "-m", "autocaption.serve", "--checkpoint", "nothing.ckpt", "--port", "0", *words, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_here("-m", "autocaption.serve", "--checkpoint", "x", "--port", port, cwd=tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "another --port" in done.stderr


def test_a_port_that_another_takes_meanwhile_is_named(checkpoint, tmp_path, monkeypatch):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port, load = str(other.getsockname()[1]), autocaption.api.load
        monkeypatch.setattr(autocaption.api, "load", lambda *words: (other.listen(), load(*words))[1])
        words = ("--checkpoint", checkpoint, "--device", "cpu", "--port", port)
        done = run_here("-m", "autocaption.serve", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; take another --port" in done.stderr


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = run_here("-m", "autocaption.serve", "--checkpoint", "x", "--port", "0", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install 'autocaption[serve]'" in done.stderr
