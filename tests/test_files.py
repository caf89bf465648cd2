"""Files are written whole or not at all."""

import json

import pytest

from autocaption.errors import WriteError
from autocaption.files import write_json, write_whole


def names(folder):
    return [entry.name for entry in folder.iterdir()]


def test_a_file_is_written_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    for text in ("one", "two"):
        write_whole(file, lambda aside, text=text: aside.write_text(text))
        assert file.read_text() == text
        assert names(tmp_path) == ["a.txt"]


def test_partial_file_never_has_the_final_name(tmp_path):
    file = tmp_path / "a.txt"
    seen = []

    def write(aside):
        aside.write_text("half")
        seen.append((file.exists(), aside.parent == tmp_path))
        aside.write_text("whole")

    write_whole(file, write)
    assert seen == [(False, True)]
    assert file.read_text() == "whole"


def test_who_reads_the_old_file_keeps_it(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with open(file) as reader:
        write_whole(file, lambda aside: aside.write_text("new"))
        assert reader.read() == "old"
    assert file.read_text() == "new"


def test_who_writes_the_same_file_meanwhile_gets_another_temporary_file(tmp_path):
    file = tmp_path / "a.txt"

    def write(aside):
        aside.write_text("half")
        # As on another machine, with the same process id.
        write_whole(file, lambda other: other.write_text("theirs"))
        assert file.read_text() == "theirs"
        aside.write_text("whole")

    write_whole(file, write)
    assert file.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "before"])
def test_a_writer_that_fails_changes_nothing(tmp_path, error, before):
    file = tmp_path / "a.txt"
    if before:
        file.write_text(before)

    def fail(aside):
        aside.write_text("half")
        raise error("disk on fire")

    with pytest.raises(error, match="disk on fire"):
        write_whole(file, fail)
    assert names(tmp_path) == ([] if before is None else ["a.txt"])
    assert before is None or file.read_text() == before


def test_a_writer_that_writes_nothing(tmp_path):
    with pytest.raises(WriteError, match=r"a\.txt: No such file"):
        write_whole(tmp_path / "a.txt", lambda aside: None)
    assert names(tmp_path) == []


def test_json_round_trip(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"caption": "ein Hund läuft 🐕"}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "läuft 🐕" in text  # for people to read
    assert text.endswith("}\n")


def test_half_a_character_comes_back_from_json(tmp_path):
    value = {"caf\udce9.png": "a \ud800 dog"}  # a file's name that is no UTF-8; an escape in JSON
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def test_value_that_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"bad": object()})
    assert (tmp_path / "a.json").read_text() == "1\n"
    assert names(tmp_path) == ["a.json"]
