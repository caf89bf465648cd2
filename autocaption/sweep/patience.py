"""Waiting for a storage that doesn't answer, such as a database server that restarts."""

import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from autocaption.errors import first_line
from autocaption.sweep.storage import STORAGE_ERRORS

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries; the pause doubles from try to try


class Patience:
    """Waits through a storage's outages, each up to a limit.

    Args:
        limit: seconds that an outage may last.
        say: takes the one line that tells of an outage.
    """

    def __init__(self, limit: float, say: Callable[[str], None]) -> None:
        self.limit, self.say = limit, say
        self._began: float | None = None
        self._pause = FIRST_PAUSE

    def wait(self, error: Exception) -> None:
        """Pause after a failed try; the first one of an outage says so.

        Raises:
            Exception: `error`, if it is no outage or the outage has reached the limit.
        """
        now = time.monotonic()
        if not _is_outage(error):
            raise error
        if self._began is None:
            self._began, self._pause = now, FIRST_PAUSE
            if self.limit > 0:
                line = first_line(_cause(error))
                self.say(f"the sweep's storage doesn't answer ({line}); waiting up to {self.limit:g} s")
        left = self._began + self.limit - now
        if left <= 0:
            raise error
        time.sleep(min(self._pause, left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def end_outage(self) -> bool:
        """Note that the storage answered; returns whether that ends an outage."""
        ended, self._began = self._began is not None, None
        return ended

    def insist(self, operation: Callable[[], T]) -> T:
        """Call it until it succeeds; it must do no harm when it is repeated."""
        while True:
            try:
                result = operation()
            except STORAGE_ERRORS as error:
                self.wait(error)
            else:
                self.end_outage()
                return result


def _is_outage(error: BaseException) -> bool:
    cause = _cause(error)
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return isinstance(cause, OperationalError | InterfaceError | OSError)


def _cause(error: BaseException) -> BaseException:
    """Optuna wraps what SQLAlchemy raises, under a message of its own."""
    return error.__cause__ or error if isinstance(error, StorageInternalError) else error
