"""The secrets of a run that can be resumed."""

import json
import os

from autocaption.runs.kept_secrets import FILE, forget, keep, kept, restored, secrets_of
from autocaption.runs.provenance import HIDDEN, without_secrets

CONFIG = {
    "seed": 1,
    "logger": {"mine": {"token": "hunter2", "url": "x://me:hunter3@h", "tags": ["a"], "pin_token": 1234}},
    "list": [{"password": "hunter4"}, {"name": "b"}],
    "credentials": {"user": "hunter5", "key": "${oc.env:KEY}", "none": None},
}


def test_what_is_hidden_is_restored():
    hidden = without_secrets(CONFIG)
    assert "hunter" not in json.dumps(hidden)
    assert restored(hidden, secrets_of(CONFIG)) == CONFIG
    assert set(secrets_of(CONFIG)) == {
        *("logger.mine.token", "logger.mine.url", "logger.mine.pin_token", "list.0.password"),
        "credentials.user",
    }


def test_the_first_source_counts_and_what_is_given_anew_stays():
    hidden = {"a": {"token": HIDDEN}, "b": {"token": HIDDEN}, "c": {"token": "new"}, "d": {"token": HIDDEN}}
    found = restored(hidden, {"a.token": 1}, {"a.token": 2, "b.token": 3, "c.token": 4})
    assert found == {"a": {"token": 1}, "b": {"token": 3}, "c": {"token": "new"}, "d": {"token": HIDDEN}}


def test_only_the_owner_can_read_the_file(tmp_path):
    before = os.umask(0)
    try:
        (tmp_path / FILE).write_text("{}")  # readable to all
        keep(tmp_path, CONFIG)
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert kept(tmp_path) == secrets_of(CONFIG)
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_a_copy_that_others_can_read_is_made_private_with_a_warning(tmp_path, caplog):
    keep(tmp_path, CONFIG)
    (tmp_path / FILE).chmod(0o644)
    assert kept(tmp_path) == secrets_of(CONFIG)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    (line,) = caplog.messages
    assert "could be read by others (mode 644)" in line


def test_without_secrets_there_is_no_file(tmp_path):
    keep(tmp_path, {"seed": 1, "token": "${oc.env:TOKEN}"})
    assert list(tmp_path.iterdir()) == []
    keep(tmp_path, CONFIG)
    keep(tmp_path, {"seed": 1})  # of an attempt that needs none any more
    assert (list(tmp_path.iterdir()), kept(tmp_path)) == ([], {})
    forget(tmp_path)


def test_a_damaged_file_has_no_secrets(tmp_path):
    for text in ("", "{", "[]"):
        (tmp_path / FILE).write_text(text)
        assert kept(tmp_path) == {}
