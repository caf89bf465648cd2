"""What is known of picture files without reading them again."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autocaption.data.sources import PictureFile
from autocaption.errors import UserError
from autocaption.files import write_text
from autocaption.machine import cores, without_collection
from autocaption.progress import track

log = logging.getLogger(__name__)

FORMAT = 1
SAVE_EVERY = 10_000  # files; at most this many are read again after a crash
SETTLED = 2 * 10**9  # nanoseconds; the coarsest file systems count in steps of two seconds
DIGEST, DECODES = "digest", "decodes"


class Manifest:
    """Content digests of picture files, and which of them decode, kept on disk.

    What is known of a file holds while its size and modification time stay the same. What is read of a file
    within two seconds of its modification is not kept, since it may change again within one tick of the
    file system's clock.

    Args:
        file: where it is kept; None to keep nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._known = self._read()

    def digests(self, paths: Sequence[PictureFile]) -> list[str]:
        """A digest of each file's content; new files are read by as many threads as there are cores.

        Raises:
            UserError: a file cannot be read.
        """
        return self._facts(DIGEST, paths, _digest, "Reading images")

    def check(
        self, paths: Sequence[PictureFile], decode: Callable[[PictureFile], object]
    ) -> dict[PictureFile, str]:
        """Decode each file that is not known to decode.

        Returns:
            the errors of those for which `decode` raises a UserError, in order; they are tried again
        """
        errors: dict[PictureFile, str] = {}

        def decodes(path: PictureFile) -> bool:
            try:
                decode(path)
            except UserError as error:
                errors[path] = str(error)
            return path not in errors

        self._facts(DECODES, paths, decodes, "Checking images")
        return {path: errors[path] for path in paths if path in errors}

    def _facts(
        self, name: str, paths: Sequence[PictureFile], find: Callable[[PictureFile], Any], what: str
    ) -> list[Any]:
        """A fact of each file, found where it is not known."""
        facts = self._kept(paths)
        new = [(path, known) for path, known in zip(paths, facts, strict=True) if not known.get(name)]
        if new:
            pool = ThreadPoolExecutor(cores())
            try:
                found = pool.map(find, [path for path, _ in new])
                for count, fact in enumerate(track(found, what, len(new))):
                    new[count][1][name] = fact
                    if (count + 1) % SAVE_EVERY == 0:
                        self._save()
            finally:
                pool.shutdown(cancel_futures=True)
                self._save()
        return [known[name] for known in facts]

    def _kept(self, paths: Sequence[PictureFile]) -> list[dict[str, Any]]:
        """The facts of each file, as a dict to add to; it is kept if the file is settled."""
        now, facts = time.time_ns(), []
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from None
            state = [status.st_size, status.st_mtime_ns]
            entry = self._known.get(str(path))
            if entry is None or entry[0] != state:
                entry = [state, {}]
                if now - status.st_mtime_ns > SETTLED:
                    self._known[str(path)] = entry
            facts.append(entry[1])
        return facts

    @without_collection()
    def _read(self) -> dict[str, Any]:
        """What is on disk; nothing where it is absent, damaged or of another format."""
        try:
            stored = json.loads(self.file.read_bytes()) if self.file else {}
            return stored["files"] if stored.get("format") == FORMAT else {}
        except (OSError, ValueError, KeyError, AttributeError):
            return {}

    def _save(self) -> None:
        """Add what is known to what is on disk."""
        if self.file is None:
            return
        files = {**self._read(), **self._known}  # another process may have added to it
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps({"format": FORMAT, "files": files}, separators=(",", ":")))
        except OSError as error:
            log.warning("cannot keep %s (%s); pictures will be read again", self.file, error.strerror)


def _digest(path: PictureFile) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: PictureFile, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {error.strerror}; restore the file or check data.root")
