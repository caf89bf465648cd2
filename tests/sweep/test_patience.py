"""Waiting for a storage that doesn't answer."""

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DatabaseError, OperationalError

from autocaption.sweep.patience import Patience


@pytest.fixture
def pauses(monkeypatch):
    """The pauses, which take no time but move the clock."""
    pauses = []
    monkeypatch.setattr("autocaption.sweep.patience.time.sleep", pauses.append)
    monkeypatch.setattr("autocaption.sweep.patience.time.monotonic", lambda: sum(pauses))
    return pauses


def locked():
    wrapped = StorageInternalError("while committing")
    wrapped.__cause__ = OperationalError("INSERT", None, Exception("database is locked"))
    return wrapped


def after(failures, error):
    """An operation that fails a number of times."""
    left = [error] * failures

    def operation():
        if left:
            raise left.pop()
        return "done"

    return operation


def test_outages_are_waited_for_with_growing_pauses_and_each_is_said_once(pauses):
    said = []
    patience = Patience(60, said.append)
    assert patience.insist(after(7, locked())) == "done"
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert max(pauses) == 5
    assert len(said) == 1
    assert "database is locked" in said[0]
    assert "up to 60 s" in said[0]
    pauses.append(1000)  # long after, another one
    assert patience.insist(after(2, OSError("stale file handle"))) == "done"
    assert pauses[-2:] == [0.2, 0.4]
    assert len(said) == 2


def test_after_the_limit_the_error_is_raised(pauses):
    error = locked()
    with pytest.raises(StorageInternalError) as raised:
        Patience(30, print).insist(after(1000, error))
    assert raised.value is error
    assert sum(pauses) == 30


def test_what_is_no_outage_is_raised_at_once(pauses):
    with pytest.raises(DatabaseError):
        Patience(30, print).insist(after(1, DatabaseError("", None, Exception("not a database"))))
    assert pauses == []
