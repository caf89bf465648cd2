"""Databases as storages: a SQLite file, and a server."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.util import asbool

from autocaption.errors import UserError
from autocaption.files import lock

Opened = tuple[RDBStorage, Callable[[], AbstractContextManager[None]]]  # a storage, and its sweepers' lock


def located(url: sqlalchemy.URL) -> tuple[sqlalchemy.URL, Path]:
    """A SQLite URL in which the path is absolute, and the path.

    Raises:
        UserError: it names no file, or SQLite would take a part of the path for something else.
    """
    database = url.database or ""
    is_uri = asbool(url.query.get("uri", False))
    parts = urlsplit(database)
    if is_uri and (parts.query or parts.fragment):
        raise UserError(f"{database}: write ? and # within a file: path as %253F and %2523")
    name = unquote(parts.path) if is_uri else database
    if name in ("", ":memory:") or url.query.get("mode") == "memory":
        raise UserError("a database in memory is gone before a trial can be resumed; name a file")
    path = Path(name).resolve()
    return url.set(database=f"file:{quote(str(path))}" if is_uri else str(path)), path


def open_sqlite(url: sqlalchemy.URL, path: Path) -> Opened:
    """Open a SQLite file, or create it.

    Args:
        url: its URL, as from `located`.
        path: its path; the lock is a file beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        with open(f"{path}.lock", "w") as file:
            lock(file)
            yield

    with exclusive(), warnings.catch_warnings():  # or two processes create the same tables
        # What follows a `?` in a path would else be dropped.
        warnings.filterwarnings("error", "Query string argument", sqlalchemy.exc.SAWarning)
        return RDBStorage(_text(url), {"connect_args": {"timeout": 60}}), exclusive


def open_server(url: sqlalchemy.URL) -> Opened:
    """Connect to a database server, and create Optuna's tables."""
    storage = _with_retries(lambda: RDBStorage(_text(url), {"pool_pre_ping": True}))

    @contextlib.contextmanager
    def exclusive() -> Iterator[None]:
        # The one row that Optuna itself never locks; it locks `study` to number a trial.
        table = sqlalchemy.table("version_info", sqlalchemy.column("version_info_id"))
        with storage.engine.begin() as connection:
            connection.execute(sqlalchemy.select(table).with_for_update())
            yield

    return storage, exclusive


def _text(url: sqlalchemy.URL) -> str:
    """The URL with its parts escaped, also the braces, which Optuna would take for a template's."""
    return url.render_as_string(hide_password=False)


def _with_retries(open_database: Callable[[], Any], tries: int = 5) -> Any:
    """If two processes create the tables at once, one of them fails, and succeeds when it retries."""
    for attempt in range(tries):
        try:
            return open_database()
        except Exception:
            if attempt == tries - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
