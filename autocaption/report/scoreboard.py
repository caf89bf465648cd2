"""Corpus metrics side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from autocaption.report.examples import FIRST, by_importance
from autocaption.report.system import System

LOWER_IS_BETTER = ("loss", "perplexity", "most_frequent")
NEITHER = ("mean_length",)  # is better


@dataclass(frozen=True)
class Cell:
    """A metric of one column.

    Attributes:
        value: the metric, None where it was not measured.
        interval: its 95 % interval, None where it has none.
        best: whether it is the best of its row, or equals it; none is where more or less is neither.
        bar: where value and interval lie between the row's least and greatest, in percent.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    best: bool = False
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Scoreboard:
    """Columns, and a row of cells for each metric, those that people look at first on top."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]

    def first(self, column: int, count: int) -> list[tuple[str, Cell]]:
        """(metric, cell) of a column's values that people look at first, at most so many."""
        found = [(metric, cells[column]) for metric, cells in self.rows if metric in FIRST]
        return [(metric, cell) for metric, cell in found if cell.value is not None][:count]


def scoreboard(systems: Sequence[System]) -> Scoreboard:
    """Every split of a single system, or of several systems the split that each captioned."""
    columns = [(system, system.split) for system in systems]
    if len(systems) == 1:
        (system,) = systems
        splits = {key.split("/")[0]: None for key in system.metrics}
        columns = [(system, split) for split in splits] or columns
    metrics = {
        key.partition("/")[2]: None
        for system, split in columns
        for key in system.metrics
        if key.startswith(f"{split}/")
    }
    ranked = len(systems) > 1
    return Scoreboard(
        [system.name if ranked else split for system, split in columns],
        [(metric, _row(metric, columns, ranked)) for metric in by_importance(list(metrics))],
    )


def _row(metric: str, columns: Sequence[tuple[System, str]], ranked: bool) -> list[Cell]:
    keys = [(system, f"{split}/{metric}") for system, split in columns]
    values = [system.metrics.get(key) for system, key in keys]
    intervals = [system.intervals.get(key) for system, key in keys]
    present = [value for value in values if value is not None]
    best = (min if metric in LOWER_IS_BETTER else max)(present, default=None)
    ends = [end for interval in intervals if interval for end in interval] + present
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    compared = sum(interval is not None for interval in intervals) > 1 and high > low
    judged, cells = ranked and metric not in NEITHER, []
    for value, interval in zip(values, intervals, strict=True):
        bar = None
        if compared and interval and value is not None:
            at = [round(100 * (x - low) / (high - low), 1) for x in (interval[0], value, interval[1])]
            bar = at[0], at[1], at[2]
        cells.append(Cell(value, interval, judged and value is not None and value == best, bar))
    return cells
