"""What a command says of an error, and where the traceback of an unforeseen one stays."""

import errno
import io
import stat
import sys
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from autocaption.errors import UserError, WriteError
from autocaption.exits import one_line_errors


def said(error):
    """What the command says of an error that its work raises."""

    def work():
        raise error

    with pytest.raises(SystemExit) as ended:
        one_line_errors(work)
    line = str(ended.value)
    assert line.startswith("error: ")
    assert len(line.splitlines()) == 1
    return line.removeprefix("error: ")


def wrapped(error):
    """As Hydra wraps what a constructor raises."""
    outer = RuntimeError("error in call to target")
    outer.__cause__ = error
    return outer


def test_a_user_s_mistake_is_its_own_line_also_where_it_is_wrapped():
    assert said(UserError("no room")) == "no room"
    assert said(wrapped(UserError("no room"))) == "no room"


def test_an_operating_system_error_names_the_path():
    line = said(FileExistsError(errno.EEXIST, "File exists", "/runs"))
    assert line.startswith("/runs: File exists; ")
    full = WriteError(OSError(errno.ENOSPC, "No space left on device"), Path("/runs/a.json"))
    assert said(full).startswith("cannot write /runs/a.json: No space left on device; ")


def test_what_the_system_refuses_is_named_also_where_it_is_wrapped():
    refusal = PermissionError(errno.EACCES, "Permission denied", "/runs/x/train.log")
    assert said(wrapped(refusal)).startswith("/runs/x/train.log: Permission denied; ")
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/a")
    assert "error in call to target; the traceback" in said(wrapped(missing))  # perhaps a bug of ours


def test_a_full_disk_needs_no_traceback_also_where_it_is_not_named():
    assert said(OSError(errno.ENOSPC, "No space left on device")).startswith("cannot write: No space left")


def test_a_character_that_the_output_cannot_have_is_printed_as_its_number(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "ascii"))
    one_line_errors(lambda: print("a dog \u2013 caf\udce9.png", flush=True))
    assert printed.getvalue() == rb"a dog \u2013 caf\udce9.png" + b"\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_names_what_takes_it(error):
    for one in (error, wrapped(error)):
        assert said(one).startswith("out of memory: ")
        assert "data.batch_size" in said(one)


CONSTRUCTORS = """
class Part:
    def __init__(self, depth, width=1):
        if depth < 0:
            raise ValueError("the depth must be positive")
        self.depth = depht
"""
NOT_MADE = {  # a node, the words of the command line, and what is said
    "a value": ({"depth": -1}, ("part.depth=-1", "part.pos=2"), "part.depth: Part refuses its values: the"),
    "a kind": ({"depth": "x"}, ("part.depth=x", "seed=1"), "part.depth: Part refuses its values: '<' not"),
    "one of several": ({"depth": "x"}, ("part.depth=x", "++part.width=1"), "part.depth, part.width: Part "),
    "of a choice": ({"depth": -1}, ("part=deep", "partial.depth=-1"), "part: Part refuses its values: the"),
    "a key": (
        {"depth": 1, "wide": 2},
        ("part.depth=1", "+part.wide=2"),
        "part.wide: Part has no such argument; leave it out",
    ),
    "a bug": ({"depth": 1}, ("part.depth=1",), "NameError"),
    "no package": ({"_target_": "no.such"}, (), "part._target_: there is no package 'no'; check the name"),
    "no module": ({"_target_": "helpers.no.such"}, (), "part._target_: Error loading 'helpers.no.such'"),
    "no class": ({"_target_": "parts_of_a_test.Prt"}, (), "part._target_: Error loading 'parts_of_a_test"),
    "a broken module": ({"_target_": "broken_part.Part"}, (), "Error locating target 'broken_part.Part'"),
}


@pytest.mark.parametrize(("node", "words", "line"), NOT_MADE.values(), ids=NOT_MADE)
def test_what_a_constructor_refuses_is_named_by_its_key_and_a_bug_in_it_is_none(
    node, words, line, tmp_path, monkeypatch
):
    (tmp_path / "parts_of_a_test.py").write_text(CONSTRUCTORS)
    (tmp_path / "broken_part.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = OmegaConf.create({"part": {"_target_": "parts_of_a_test.Part", **node}})
    with pytest.raises(InstantiationException) as raised:
        instantiate(config.part)
    assert line in (found := said(raised.value))
    assert ("; the traceback is in" in found) == (line.startswith(("NameError", "Error locating")))


def test_an_unforeseen_error_names_itself_and_the_file_of_its_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    line = said(ValueError("a bug\nin two lines"))
    (file,) = tmp_path.iterdir()
    assert line == f"ValueError: a bug in two lines; the traceback is in {file}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # others may look there
    text = file.read_text()
    assert text.startswith("Traceback")
    assert "raise error" in text


def test_a_traceback_is_kept_in_the_folder_that_the_command_names(tmp_path):
    def work():
        raise ValueError("a bug " + 1000 * "x")

    with pytest.raises(SystemExit, match=rf"x\.\.\.; the traceback is in {tmp_path}/traceback.txt") as ended:
        one_line_errors(work, folder=tmp_path)
    assert len(str(ended.value)) < 600
    assert (tmp_path / "traceback.txt").read_text().count("x") >= 1000


def test_without_room_for_a_traceback_the_variable_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert said(ValueError("a bug")) == "ValueError: a bug; AUTOCAPTION_DEBUG=1 shows the traceback"


def test_the_debug_variable_raises(monkeypatch):
    monkeypatch.setenv("AUTOCAPTION_DEBUG", "1")
    with pytest.raises(UserError):
        one_line_errors(lambda: (_ for _ in ()).throw(UserError("no room")))


def test_ctrl_c_and_success():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        one_line_errors(interrupted)
    assert ended.value.code == 130
    assert one_line_errors(lambda: 3) == 3
