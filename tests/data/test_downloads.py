"""Downloads from a local server that cuts connections, and archives that are damaged or unsafe."""

import functools
import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from autocaption.data import downloads
from autocaption.data.downloads import Archive, fetch, unpack
from autocaption.errors import UserError


def zipped(entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


class Cutting(http.server.BaseHTTPRequestHandler):
    """Sends at most `most` bytes a connection, then closes it; `ranges` says whether it knows Range."""

    def __init__(self, server, *arguments):
        self.site = server
        super().__init__(*arguments)

    def do_GET(self):
        site = self.site
        site.requests.append(self.headers.get("Range"))
        if site.errors:
            self.send_error(site.errors.pop(0))
            return
        content = site.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if site.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + site.most])
        site.most = site.next_most(site.most)

    def log_message(self, *arguments):
        pass


class Site:
    def __init__(self, files):
        self.files, self.requests, self.errors = files, [], []
        self.ranges, self.most, self.next_most = True, 10**9, lambda most: most
        handler = functools.partial(Cutting, self)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def archive(self, path, **changes):
        md5 = hashlib.md5(self.files[path]).hexdigest()
        return Archive(**{"url": self.url + path, "md5": md5, "folder": ".", "marker": "a"} | changes)


CONTENT = zipped({"a/x.jpg": bytes(range(256)) * 400, "a/y.jpg": b"y", "__MACOSX/._x": b"z"})


@pytest.fixture
def site():
    served = Site({"/a.zip": CONTENT})
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_connections_that_break_are_resumed(site, tmp_path):
    site.most = 30_000
    fetch(site.archive("/a.zip"), tmp_path / "a.zip", wait=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert site.requests == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_later_call_goes_on(site, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:70_000])
    fetch(site.archive("/a.zip"), tmp_path / "a.zip", wait=0)
    assert site.requests == ["bytes=70000-"]
    (tmp_path / "a.zip").rename(tmp_path / "a.zip.part")  # killed before the rename
    fetch(site.archive("/a.zip"), tmp_path / "a.zip", wait=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(site, tmp_path):
    site.ranges, site.most, site.next_most = False, 30_000, lambda most: 10**9
    fetch(site.archive("/a.zip"), tmp_path / "a.zip", wait=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_server_errors_are_retried_and_others_are_said(site, tmp_path):
    site.errors = [503, 429, 500]
    fetch(site.archive("/a.zip"), tmp_path / "a.zip", wait=0)
    assert len(site.requests) == 4
    with pytest.raises(UserError, match=r"b\.zip: the server says 404"):
        fetch(Archive(f"{site.url}/b.zip", "", ".", "a"), tmp_path / "b.zip", wait=0)


def test_a_server_that_never_answers_is_given_up_and_nothing_is_lost(site, tmp_path):
    site.most, site.next_most = 500, lambda most: 0
    with pytest.raises(UserError, match=r"goes on from there"):
        fetch(site.archive("/a.zip"), tmp_path / "a.zip", wait=0)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:500]


def test_another_content_is_refused(site, tmp_path):
    with pytest.raises(UserError, match="MD5"):
        fetch(site.archive("/a.zip", md5="0" * 32), tmp_path / "a.zip", wait=0)
    assert not list(tmp_path.iterdir())


def test_a_data_set_is_downloaded_once(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "ARCHIVES", {"some": [site.archive("/a.zip", folder="texts")]})
    downloads.download("some", tmp_path / "new")
    assert (tmp_path / "new/texts/a/y.jpg").read_bytes() == b"y"
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["new/texts/a/x.jpg", "new/texts/a/y.jpg"]  # neither archive nor __MACOSX
    downloads.download("some", tmp_path / "new")
    assert len(site.requests) == 1


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_an_unsafe_archive_is_refused_whole(name, tmp_path):
    file = tmp_path / "in/a.zip"
    file.parent.mkdir()
    file.write_bytes(zipped({"a/x": b"x", name: b"evil"}))
    with pytest.raises(UserError, match="unsafe"):
        unpack(file, tmp_path / "in/deep", "a")
    assert not list((tmp_path / "in/deep").iterdir())
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_in_an_archive_is_refused(tmp_path):
    link = zipfile.ZipInfo("a/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(UserError, match="unsafe"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "a")


def test_a_damaged_archive_leaves_nothing(tmp_path):
    damaged = bytearray(CONTENT)
    damaged[5000] ^= 255
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(UserError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out", "a")
    assert not list((tmp_path / "out").iterdir())
