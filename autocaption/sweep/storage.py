"""Where a study is stored, and the lock that its sweepers share."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from autocaption.errors import UserError, first_line
from autocaption.runs.provenance import without_secrets
from autocaption.sweep.databases import located, open_server, open_sqlite
from autocaption.sweep.journal import open_journal

optuna.logging.set_verbosity(optuna.logging.WARNING)  # SweepTable shows the trials instead
STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError, OSError)  # after opening: storage gone, disk full
JOURNAL = "journal:"


@dataclass(frozen=True)
class Storage:
    """An Optuna storage and a lock across all processes that use it.

    Attributes:
        backend: the Optuna storage.
        exclusive: opens a context in which no other sweeper creates or claims a trial. The lock is
            released when its process dies.
        url: what another process opens it by, wherever it runs on this file system.
    """

    backend: BaseStorage
    exclusive: Callable[[], AbstractContextManager[None]]
    url: str

    def trial_id(self, study: optuna.Study, number: int) -> int:
        """The id of a trial, unique in the storage, that the backend's methods take."""
        study_id = self.backend.get_study_id_from_name(study.study_name)
        return self.backend.get_trial_id_from_study_id_trial_number(study_id, number)

    def trial(self, study: optuna.Study, number: int) -> FrozenTrial:
        """A trial as it is stored now."""
        return self.backend.get_trial(self.trial_id(study, number))


def own_url(folder: Path) -> str:
    """The URL of the SQLite file in a sweep's folder, whatever characters are in its path."""
    return URL.create("sqlite", database=str(folder / "study.db")).render_as_string()


def open_storage(url: str) -> Storage:
    """Open a SQLite file, any database that SQLAlchemy knows, or a journal file (`journal:PATH`).

    Raises:
        UserError: it can't be opened.
    """
    try:
        if url.startswith(JOURNAL):
            path = Path(url.removeprefix(JOURNAL)).resolve()
            return Storage(*open_journal(path), f"{JOURNAL}{path}")
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return Storage(*open_server(parsed), url)
        if "?" in url and not parsed.query:
            raise UserError("write a ? within the path as %3F")
        parsed, path = located(parsed)
        return Storage(*open_sqlite(parsed, path), parsed.render_as_string())
    except Exception as error:  # each driver raises its own
        raise UserError(
            f"sweep.storage={without_secrets(url)} can't be opened: {first_line(error)}; take "
            "sqlite:///FILE, journal:FILE, or the URL of a database whose driver is installed"
        ) from error
