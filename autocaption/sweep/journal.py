"""A journal file as a storage; half a line at its end is trimmed before the next one is written."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

log = logging.getLogger(__name__)
BLOCK = 1 << 16  # bytes to read at once in search of the last whole line


class TrimmingLock(JournalFileSymlinkLock):
    """Optuna's lock on a journal file; whoever takes it trims a torn last line.

    A process that was killed amid a write, or found the disk full, leaves half a line. Optuna would append
    the next one to it, and no process could read the study again.

    Args:
        path: the journal file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def acquire(self) -> bool:
        """Take the lock, then trim the file."""
        taken = super().acquire()
        try:
            _trim(self._path)
        except BaseException:
            self.release()
            raise
        return taken


def open_journal(path: Path) -> tuple[JournalStorage, Callable[[], AbstractContextManager[None]]]:
    """Open a journal file, or create it: the storage, and the lock that its sweepers share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(f"{path}.claims")  # works where flock doesn't, as on NFS

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    return JournalStorage(JournalFileBackend(str(path), TrimmingLock(path))), exclusive


def _trim(path: Path) -> None:
    with open(path, "r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        found = -1  # the last line feed
        while end and found < 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            end = start
        whole = end + found + 1
        if whole != size:
            file.truncate(whole)
            log.warning("%s: removed the torn last line, %d bytes", path, size - whole)
