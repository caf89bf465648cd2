"""Where conf/ lies; writing files whole or not at all, locking them, the blocks and pages of mapped ones."""

import fcntl
import json
import logging
import mmap
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from autocaption.errors import LockError, WriteError

log = logging.getLogger(__name__)

_ASIDE = re.compile(r"\..+\.\d+")  # the names of `beside`


def conf_folder() -> Path:
    """conf/: beside the package in a checkout, within it where it is installed (setup.py)."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files below a folder, in no order; those of linked folders too, as data sets are spread over disks.

    Args:
        folder: where to look.
        above: the folders that it lies in, by their real paths; a link to one of them would have no end.
    """
    if (real := os.path.realpath(folder)) in above:
        return
    try:
        entries = os.scandir(folder)
    except PermissionError:  # such as a disk's lost+found
        log.warning("skipped the folder %s: permission denied", folder)
        return
    with entries:
        for entry in entries:
            if entry.is_dir():
                yield from files_below(Path(entry.path), (*above, real))
            else:
                yield Path(entry.path)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it, so that no partial one has it.

    Raises:
        WriteError: the disk is full, or the path can't be written to.
    """
    aside = beside(path)
    try:
        try:
            write(aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(error, path) from error


def beside(path: Path) -> Path:
    """A path in the same folder that no other process has, also on machines where process ids repeat."""
    return path.with_name(f".{path.name}.{secrets.randbelow(10**12)}")


def remove_asides(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; nobody may be writing there."""
    for entry in folder.glob(".*"):
        if _ASIDE.fullmatch(entry.name) and entry.is_file():
            entry.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all.

    Half a character, which JSON and file names may hold, is written as JSON escapes it.
    """
    write_whole(path, lambda aside: aside.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_private_json(path: Path, value: Any) -> None:
    """Write a value that may hold secrets as JSON, whole or not at all; only the user can read the file."""

    def write(aside: Path) -> None:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file)

    write_whole(path, write)


def try_lock(file: TextIO, shared: bool = False) -> bool:
    """Lock a file until all processes that have it open have closed it; False where another holds it.

    Args:
        file: open for writing, or NFS refuses an exclusive lock; for reading is enough for a shared one.
        shared: whether others may have a shared lock at the same time.

    Raises:
        LockError: the file system has no locks.
    """
    try:
        _flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(file: TextIO) -> None:
    """Lock a file as `try_lock` does, once no other holds it.

    Raises:
        LockError: the file system has no locks.
    """
    _flock(file, fcntl.LOCK_EX)


def _flock(file: TextIO, operation: int) -> None:
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        raise LockError(error, file.name) from error


def allocate(path: Path) -> None:
    """Give a sparse file its disk blocks: writing to a hole on a full disk would kill the process.

    Raises:
        OSError: the disk has no room.
    """
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            return
        while block := file.read(2**20):  # macOS has no such call: write what is there
            file.seek(-len(block), os.SEEK_CUR)
            file.write(block)


def release_pages(stored: Any) -> None:
    """Release the resident pages of a memory-mapped array (MADV_DONTNEED).

    Touched pages count as this process's memory. What was written stays written, and the pages are
    read again when they are touched.

    Args:
        stored: a np.memmap as np.load or open_memmap returns it, not a view of one.
    """
    stored.base.madvise(mmap.MADV_DONTNEED)
