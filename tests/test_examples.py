"""The examples under docs/ run as they stand there."""

import contextlib
import json
import runpy
import sys
from types import SimpleNamespace

import pytest
from helpers import ROOT
from helpers.checkpoints import pictures_of, save_tiny
from helpers.scripts import run_here
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the examples name: best.ckpt, of a model that attends, and pictures."""
    folder = tmp_path_factory.mktemp("examples")
    path, _, data = save_tiny(folder, "attention")
    path.rename(folder / "best.ckpt")
    for name, picture in zip(("picture.jpg", "another.png"), pictures_of(data), strict=False):
        picture.resize((90, 60)).save(folder / name)
    return folder


def test_the_script_captions_and_draws(folder):
    done = run_here("docs/caption_pictures.py", "best.ckpt", "picture.jpg", "another.png", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "picture.jpg"
    assert lines[4] == "another.png"
    assert all("%" in line for line in [*lines[1:4], *lines[5:8]])
    drawn = len(list(folder.glob("word_*.png")))
    assert drawn >= 1
    assert lines[-1].startswith(f"{drawn} pictures")


def test_the_photographs_are_captioned_on_a_sheet(folder, capsys):
    main = runpy.run_path(str(ROOT / "docs/photographs/sheet.py"))["main"]
    main(str(folder / "best.ckpt"), folder / "sheet.jpg")
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    photographs = {path.name for path in (ROOT / "docs/photographs").glob("*.jpg")} - {"sheet.jpg"}
    assert set(names) == photographs
    page = (ROOT / "docs/photographs/README.md").read_text()
    assert all(f"| `{name}` |" in page for name in names)  # with its source and licence
    with Image.open(folder / "sheet.jpg") as sheet:
        assert sheet.width > 4 * 224


def test_the_notebook_runs_from_top_to_bottom(folder, monkeypatch, capsys):
    notebook = json.loads((ROOT / "docs/caption_pictures.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    shown = []
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append))
    (folder / "cells.py").write_text("\n".join("".join(cell["source"]) for cell in cells))
    with contextlib.chdir(folder):
        found = runpy.run_path("cells.py")
    assert [image.size for image in shown] == [(160, 160)] * len(found["seen"].words)
    assert "%" in capsys.readouterr().out
