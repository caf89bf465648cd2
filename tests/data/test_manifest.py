"""What is remembered of picture files, and when it is not trusted."""

import hashlib
import json
import os

import pytest

from autocaption.data.manifest import Manifest
from autocaption.errors import UserError


@pytest.fixture
def files(tmp_path):
    """Three files that were last modified long ago."""
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c d.jpg")]
    for path in paths:
        write(path, path.name)
    return paths


def write(path, text, time=1_000_000_000):
    path.write_text(text)
    os.utime(path, ns=(time, time))


def oracle(paths):
    return [hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in paths]


class Decoder:
    """Counts what it decodes, and fails on some."""

    def __init__(self, *broken):
        self.broken, self.seen = broken, []

    def __call__(self, path):
        self.seen.append(path.name)
        if path.name in self.broken:
            raise UserError(f"broken image: {path}")
        return path


def test_unchanged_files_are_read_once(files, tmp_path):
    kept, expected = tmp_path / "deep" / "pictures.json", oracle(files)
    assert Manifest(kept).digests(files) == expected
    write(files[0], "A.jpg")  # of the same size and time
    assert Manifest(kept).digests(files[::-1]) == expected[::-1]


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_read_again(files, tmp_path, change):
    kept = tmp_path / "pictures.json"
    Manifest(kept).digests(files)
    write(
        files[1], *{"size": ("longer than before", 1_000_000_000), "time": ("B.jpg", 2_000_000_000)}[change]
    )
    assert Manifest(kept).digests(files) == oracle(files)


def test_a_file_that_may_still_change_is_not_remembered(files, tmp_path):
    kept = tmp_path / "pictures.json"
    files[0].write_text("first")
    now = files[0].stat().st_mtime_ns
    manifest = Manifest(kept)
    manifest.digests(files)
    write(files[0], "other", time=now)  # within one tick of the clock, and of the same size
    assert manifest.digests(files) == oracle(files)
    assert Manifest(kept).digests(files) == oracle(files)


def test_pictures_known_to_decode_are_not_checked_again(files, tmp_path):
    kept, broken, whole = tmp_path / "pictures.json", Decoder("c d.jpg"), Decoder()
    (error,) = Manifest(kept).check(files, broken).items()
    assert error[0].name == "c d.jpg"
    assert "c d.jpg" in error[1]
    Manifest(kept).digests(files)
    Manifest(kept).check(files, whole)
    assert whole.seen == ["c d.jpg"]
    assert Manifest(kept).check(files, Decoder("a.jpg", "b.jpg", "c d.jpg")) == {}


def test_two_processes_add_to_one_file(files, tmp_path):
    kept = tmp_path / "pictures.json"
    one, other = Manifest(kept), Manifest(kept)
    one.digests(files[:2])
    other.digests(files[2:])
    assert len(json.loads(kept.read_text())["files"]) == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 99, "files": {}}', '{"format": 1}'])
def test_a_damaged_file_is_made_anew(files, tmp_path, damage):
    kept = tmp_path / "pictures.json"
    kept.write_text(damage)
    assert Manifest(kept).digests(files) == oracle(files)
    assert len(json.loads(kept.read_text())["files"]) == 3


def test_where_nothing_can_be_kept_that_is_said(files, tmp_path, caplog):
    (tmp_path / "taken").write_text("a file where a folder should be")
    assert Manifest(tmp_path / "taken" / "pictures.json").digests(files) == oracle(files)
    assert "pictures will be read again" in caplog.text
    assert Manifest(None).digests(files) == oracle(files)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*gone\.jpg: No such file"):
        Manifest(None).digests([tmp_path / "gone.jpg"])
