"""Fetching data sets: archives that are resumed, verified and unpacked safely."""

import hashlib
import http.client
import logging
import os
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autocaption.errors import UserError
from autocaption.progress import track

log = logging.getLogger(__name__)

CHUNK = 2**18  # bytes
ATTEMPTS = 8  # connections in a row that bring nothing new
WAIT = 2.0  # seconds after a connection that broke


@dataclass(frozen=True)
class Archive:
    """A zip file on the web.

    Attributes:
        url: where it is.
        md5: its digest, in hex: it finds damage, and its source publishes no other.
        folder: where it is unpacked, relative to the data set's folder.
        marker: a file or folder that it contains at its top; where it is unpacked, there is nothing to do.
    """

    url: str
    md5: str
    folder: str
    marker: str


_MIRROR = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
ARCHIVES: Mapping[str, Sequence[Archive]] = {
    "flickr8k": (
        Archive(
            f"{_MIRROR}/Flickr8k_text.zip",
            "bf6c1abcb8e4a833b7f922104de18627",
            *("Flickr8k_text", "Flickr8k.token.txt"),
        ),
        Archive(
            f"{_MIRROR}/Flickr8k_Dataset.zip",
            "f18a1e2920de5bd84dae7cf08ec78978",
            *(".", "Flicker8k_Dataset"),
        ),
    )
}


def download(name: str, root: Path) -> None:
    """Fetch and unpack a data set; called again after an interruption, it goes on where it stopped.

    Args:
        name: a key of ARCHIVES.
        root: the folder to unpack into; made if it isn't there.

    Raises:
        UserError: the server cannot be reached, the archive is not the published one, or the disk is full.
    """
    for archive in ARCHIVES[name]:
        folder, file = root / archive.folder, root / Path(archive.url).name
        if (folder / archive.marker).exists():
            log.info("%s is there already", folder / archive.marker)
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (file.exists() and _digest(file) == archive.md5):
                fetch(archive, file)
            unpack(file, folder, archive.marker)
            file.unlink()
        except OSError as error:
            raise UserError(f"cannot write below {root}: {error.strerror or error}") from None
    log.info("%s is in %s; train with data=%s data.root=%s", name, root, name, root)


def fetch(archive: Archive, file: Path, wait: float = WAIT) -> None:
    """Download to `file`, by way of `NAME.part`, from where an earlier call stopped.

    Raises:
        UserError: the server cannot be reached, or sent something else.
    """
    part, failures = file.with_name(f"{file.name}.part"), 0
    while True:
        before = _size(part)
        try:
            _receive(archive.url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise UserError(f"{archive.url}: the server says {error.code} {error.reason}") from None
            reason: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = error
        failures = 0 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise UserError(
                f"cannot download {archive.url} ({' '.join(str(reason).split())}); what has arrived is in "
                f"{part}, and the same command goes on from there"
            )
        time.sleep(wait * failures)
    if _digest(part) != archive.md5:
        part.unlink()
        raise UserError(f"{archive.url} sent another file than is published (MD5); it was removed, try again")
    os.replace(part, file)


def _receive(url: str, part: Path) -> None:
    """Append what is missing to a file.

    Raises:
        ConnectionError: the connection broke.
    """
    done = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # there is no more
            return
        raise
    with response:
        if response.status != 206:  # a server without ranges starts again
            done = 0
        length = response.headers.get("Content-Length")
        total, received = done + int(length or 0), done
        with open(part, "ab" if done else "wb") as file:
            pieces = iter(lambda: response.read(CHUNK), b"")
            for piece in track(pieces, f"Downloading {Path(url).name}", total, len, done):
                file.write(piece)
                received += len(piece)
        if length is not None and received < total:
            raise ConnectionError(f"the connection broke after {received:,} of {total:,} bytes")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _digest(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def unpack(file: Path, folder: Path, marker: str) -> None:
    """Unpack a zip file into a folder, by way of a folder beside it, so that none is half-filled.

    Names that lead out of the folder, links and anything but files are refused; every file's checksum is
    tested as it is read. macOS's `__MACOSX` is left out.

    Args:
        file: the archive.
        folder: the folder to unpack into.
        marker: an entry at the top of the archive, which appears in the folder last.

    Raises:
        UserError: the archive is damaged or unsafe.
    """
    aside = folder / f".{file.stem}.unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [one for one in archive.infolist() if not one.filename.startswith("__MACOSX/")]
            for entry in entries:
                _require_safe(entry, file)
            for entry in track(entries, f"Unpacking {file.name}", len(entries)):
                archive.extract(entry, aside)
        names = sorted((path.name for path in aside.iterdir()), key=lambda name: name == marker)
        if marker not in names:
            raise UserError(f"{file} does not contain {marker}; remove it and download again")
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
            os.replace(aside / name, folder / name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        file.unlink()
        raise UserError(f"{file} is a damaged archive ({error}); it was removed, try again") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _require_safe(entry: zipfile.ZipInfo, file: Path) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    mode = entry.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename or (mode and stat.S_ISLNK(mode)):
        raise UserError(f"{file} is unsafe: it contains {entry.filename!r}, which leads out of its folder")
