"""`make bench-serve` at toy size: real clients, a real server, and a figure for each."""

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.commands import TINY

from autocaption.errors import UserError
from benchmarks import serving
from benchmarks.load import load

MODEL = (*(word for word in TINY if "data" not in word), "model=show_and_tell")
needs_ab = pytest.mark.skipif(shutil.which("ab") is None, reason="needs ApacheBench")


@pytest.fixture
def asked():
    """The address of a server that answers with the status in the path, and the bodies it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(int(self.path[1:]))
            self.end_headers()
            self.wfile.write(b"x" * len(got))  # answers of many lengths

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


@needs_ab
def test_so_many_requests_are_sent(asked):
    url, got = asked
    seen = load(f"{url}/200", b"picture", "image/odd", clients=2, count=6)
    assert got == [("image/odd", b"picture")] * 6
    assert 0 <= seen.p50 <= seen.p99 < 10
    assert seen.throughput > 1


@needs_ab
def test_an_answer_that_is_no_success_is_an_error(asked):
    with pytest.raises(RuntimeError, match="3 requests failed"):
        load(f"{asked[0]}/503", b"picture", "image/odd", clients=1, count=3)


def test_without_apachebench_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="apt install apache2-utils"):
        load("http://127.0.0.1:1/", b"", "text/plain", clients=1, count=1)


@needs_ab
@pytest.mark.slow
def test_the_bench_measures_with_batches_and_without(capsys, monkeypatch):
    found = serving.measure(model=MODEL, clients=(1, 2), requests=8, size=(40, 30))
    assert set(found) == {(name, many) for name in ("batches", "one by one") for many in (1, 2)}
    for seen, cpu in found.values():
        assert seen.throughput > 0
        assert 0 < seen.p50 <= seen.p99
        assert cpu > 0
    monkeypatch.setattr(serving, "CLIENTS", (1, 2))
    monkeypatch.setattr(serving, "measure", lambda: found)
    serving.main()
    printed = capsys.readouterr().out
    assert "p50 of one client" in printed
    assert "times the throughput" in printed
