"""Where a storage's URL leads, which lock its sweepers share, and what half a line in a journal does."""

import fcntl
import multiprocessing

import optuna
import pytest
from sqlalchemy import make_url

from autocaption.errors import UserError
from autocaption.sweep.storage import open_storage, own_url

SPELLINGS = [  # of one SQLite file; {} is its absolute path
    "sqlite:///{}",
    "sqlite+pysqlite:///{}",
    "sqlite:///study.db",
    "sqlite:///sub/../study.db",
    "sqlite:///{}?timeout=5",
    "sqlite:///file:{}?uri=true",
    "sqlite+pysqlite:///file:study.db?uri=true&mode=rwc",
]


def is_locked(file):
    with open(file, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_sqlite_file_has_the_same_lock(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    file, lock = tmp_path / "study.db", tmp_path / "study.db.lock"
    storage = open_storage(spelling.format(file))
    assert file.exists()
    assert not is_locked(lock)
    with storage.exclusive():
        assert is_locked(lock)
    monkeypatch.chdir("/")  # a job of the sweep may run in another folder
    optuna.create_study(storage=storage.backend, study_name="mine")
    assert optuna.get_all_study_names(open_storage(storage.url).backend) == ["mine"]


@pytest.mark.parametrize("name", ["50%", "a%20b", "why?", "no#1", "a{b}", "a b+c", "a?x=1&uri=true", "é"])
def test_no_character_of_a_folder_leads_the_database_elsewhere(tmp_path, name):
    folder = tmp_path / name
    storage = open_storage(own_url(folder))
    optuna.create_study(storage=storage.backend, study_name="mine")
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert {path.name for path in folder.iterdir()} == {"study.db", "study.db.lock"}
    assert make_url(storage.url).database == str(folder / "study.db")
    journal = open_storage(f"journal:{folder}/log")
    optuna.create_study(storage=journal.backend, study_name="mine")
    assert (folder / "log").stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {name}


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("sqlite:///why?/study.db", "%3F"),
        ("sqlite:///why?a=b/study.db", "Query string"),
        ("sqlite:///file:no#1?uri=true", "%2523"),
        ("nosuchdatabase://somewhere", "nosuchdatabase"),
    ],
)
def test_a_url_that_would_lead_elsewhere_is_refused(tmp_path, monkeypatch, url, hint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autocaption.sweep.databases.time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match=hint) as error:
        open_storage(url)
    assert "\n" not in str(error.value)
    assert not any(path.suffix != ".lock" for path in tmp_path.rglob("*") if path.is_file())


def trials(url):
    return optuna.load_study(study_name="mine", storage=open_storage(url).backend).trials


def test_half_a_line_in_a_journal_is_trimmed_before_the_next_one(tmp_path, caplog):
    file = tmp_path / "study.log"
    study = optuna.create_study(storage=open_storage(f"journal:{file}").backend, study_name="mine")
    study.ask()
    whole = file.read_bytes()
    half = whole.splitlines()[-1][:20]
    file.write_bytes(whole + half)
    study.ask()  # a sweeper that ran already when another was killed
    assert file.read_bytes().startswith(whole)
    assert half not in file.read_bytes().splitlines()
    assert len(trials(f"journal:{file}")) == 2
    assert "removed the torn last line, 20 bytes" in caplog.text


def test_a_journal_of_half_a_line_becomes_an_empty_one(tmp_path):
    file = tmp_path / "study.log"
    file.write_bytes(b"x" * 200_000)  # longer than what is read at once
    optuna.create_study(storage=open_storage(f"journal:{file}").backend, study_name="mine").ask()
    assert len(trials(f"journal:{file}")) == 1


def append(url):
    study = optuna.load_study(study_name="mine", storage=open_storage(url).backend)
    for _ in range(20):
        study.ask()


def test_processes_that_write_at_once_trim_nothing_whole(tmp_path):
    url = f"journal:{tmp_path}/study.log"
    optuna.create_study(storage=open_storage(url).backend, study_name="mine")
    writers = [multiprocessing.get_context("spawn").Process(target=append, args=(url,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(trials(url)) == 40
