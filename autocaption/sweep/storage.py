"""Where a study is stored, and the lock that its sweepers share."""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from autocaption.errors import UserError
from autocaption.runs.provenance import without_secrets

optuna.logging.set_verbosity(optuna.logging.WARNING)  # SweepTable shows the trials instead
STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError, OSError)  # after opening: storage gone, disk full
JOURNAL, SQLITE = "journal:", "sqlite:///"


@dataclass(frozen=True)
class Storage:
    """An Optuna storage and a lock across all processes that use it.

    Attributes:
        backend: the Optuna storage.
        exclusive: opens a context in which no other sweeper creates or claims a trial. The lock is
            released when its process dies.
    """

    backend: BaseStorage
    exclusive: Callable[[], AbstractContextManager[None]]

    def trial_id(self, study: optuna.Study, number: int) -> int:
        """The id of a trial, unique in the storage, that the backend's methods take."""
        study_id = self.backend.get_study_id_from_name(study.study_name)
        return self.backend.get_trial_id_from_study_id_trial_number(study_id, number)

    def trial(self, study: optuna.Study, number: int) -> FrozenTrial:
        """A trial as it is stored now."""
        return self.backend.get_trial(self.trial_id(study, number))


def open_storage(url: str) -> Storage:
    """Open a SQLite file, any database that SQLAlchemy knows, or a journal file (`journal:PATH`).

    Raises:
        UserError: it can't be opened.
    """
    try:
        if url.startswith(JOURNAL):
            return _journal(Path(url.removeprefix(JOURNAL)))
        if url.startswith(SQLITE):
            return _sqlite(url)
        return _database(url)
    except Exception as error:  # each driver raises its own
        raise UserError(
            f"sweep.storage={without_secrets(url)} can't be opened: {first_line(error)}; take "
            "sqlite:///FILE, journal:FILE, or the URL of a database whose driver is installed"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _journal(path: Path) -> Storage:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(f"{path}.claims")  # works where flock doesn't, as on NFS

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    return Storage(JournalStorage(JournalFileBackend(str(path))), exclusive)


def _sqlite(url: str) -> Storage:
    path = Path(url.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        with open(f"{path}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    with exclusive():  # or two processes create the same tables
        return Storage(RDBStorage(url, {"connect_args": {"timeout": 60}}), exclusive)


def _database(url: str) -> Storage:
    storage = _with_retries(lambda: RDBStorage(url, {"pool_pre_ping": True}))

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        import sqlalchemy

        # The one row that Optuna itself never locks; it locks `study` to number a trial.
        table = sqlalchemy.table("version_info", sqlalchemy.column("version_info_id"))
        with storage.engine.begin() as connection:
            connection.execute(sqlalchemy.select(table).with_for_update())
            yield

    return Storage(storage, exclusive)


def _with_retries(open_database: Callable[[], Any], tries: int = 5) -> Any:
    """If two processes create the tables at once, one of them fails, and succeeds when it retries."""
    for attempt in range(tries):
        try:
            return open_database()
        except Exception:
            if attempt == tries - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
