"""Published pages: their tables come from the evaluations' files alone."""

import importlib.util

import pytest
from helpers import ROOT

SPEC = importlib.util.spec_from_file_location("table", ROOT / "experiments/table.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

FOUND = {
    "split": "test",
    "rows": {
        "a, seed 1": {"test/cider": 0.5, "intervals": {}},
        "a, seed 2": {"test/cider": 0.7, "intervals": {}},
        "a, ensemble": {"test/cider": 0.66, "test/bleu4": 0.2, "intervals": {"test/cider": [0.6, 0.72]}},
    },
    "seeds": {
        "a": {
            "rows": ["a, seed 1", "a, seed 2"],
            "metrics": {"test/cider": {"mean": 0.6, "std": 0.1414, "interval": [0, 1]}},
        }
    },
}


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_line_is_an_experiment_or_a_row_of_its_own():
    header, _, mean, ensemble = map(cells, tables.table(FOUND).splitlines())
    assert header[:3] == ["", "CIDEr-D", "BLEU-1"]
    assert mean[:3] == ["a, 2 seeds", "60.0 ± 14.1", ""]
    assert ensemble[:2] == ["a, ensemble", "66.0 (60.0\N{EN DASH}72.0)"]
    assert ensemble[header.index("BLEU-4")] == "20.0"


def test_tables_go_where_the_page_asks_for_them(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "table", lambda found: f"| {found} |\n")
    page = "Before.\n\n<!-- table x.json -->\nold\n<!-- end -->\n\nAfter.\n"
    (tmp_path / "README.md").write_text(page)
    with pytest.raises(SystemExit, match=r"x\.json, which is not there"):
        tables.main(tmp_path)
    assert (tmp_path / "README.md").read_text() == page
    (tmp_path / "x.json").write_text("7")
    for _ in range(2):
        tables.main(tmp_path)
        expected = "Before.\n\n<!-- table x.json -->\n\n| 7 |\n\n<!-- end -->\n\nAfter.\n"
        assert (tmp_path / "README.md").read_text() == expected
