"""Tables of scores at any width: nothing is left out, cut, or broken in the middle."""

import pytest
from rich.console import Console

from autocaption.report.score_tables import score_cell, score_tables

METRICS = (
    "cider",
    "bleu4",
    "rouge_l",
    "meteor",
    "spice",
    "bleu1",
    "bleu2",
    "bleu3",
    "cider_train_df",
    "loss",
)
NAMES = ("small, seed 1", "small, seed 2", "[large], seed 1", "\u72ac\u72ac\u72ac\u72ac\u72ac\u72ac")


def printed(width, names, metrics=METRICS):
    """The lines of a terminal, and the cells that were printed there."""
    cells = {
        name: {metric: score_cell(i / 10, (j / 10, 0.95)) for j, metric in enumerate(metrics)}
        for i, name in enumerate(names)
    }
    console = Console(width=width)
    with console.capture() as capture:
        for table in score_tables("row", cells, "intervals", width):
            console.print(table)
    return capture.get().splitlines(), cells


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_score_is_whole_at_any_width(width, count):
    lines, cells = printed(width, NAMES[:count])
    words = " ".join(lines).split()
    for name, row in cells.items():
        assert all(word in words for word in name.split())
        for metric, cell in row.items():
            assert metric in words
            assert all(words.count(part) >= 1 for part in cell.split("\n"))
    # Each score once, whether it stands in one table or in several.
    assert sum(words.count(f"{i / 10:.3f}") for i in range(count)) == count * len(METRICS)
    assert lines[-1].strip() == "intervals"


def heads(lines):
    return [line.split("\N{BOX DRAWINGS HEAVY VERTICAL}")[1].strip() for line in lines if "row" in line]


def test_systems_are_rows_where_the_metrics_fit_else_columns_else_rows_of_several_tables():
    assert len(heads(printed(200, NAMES)[0])) == 1
    assert sum("cider " in line for line in printed(200, NAMES)[0]) == 1
    turned, _ = printed(80, NAMES[:3])
    assert [line for line in turned if "row" in line and "seed" in line and "cider" not in line]
    assert len(heads(printed(60, NAMES)[0])) > 1


def test_an_interval_below_nought_reads_as_one():
    assert score_cell(0.1, (-0.1, 0.3), 0.05) == "0.100\N{PLUS-MINUS SIGN}0.050\n-0.100 to 0.300"
    assert score_cell(0.1, (0.05, 0.3)) == "0.100\n0.050\N{EN DASH}0.300"
    assert score_cell(None, None) == ""
