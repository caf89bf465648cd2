"""Tables of scores with their intervals, for terminals of any width."""

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

DASH = "\N{EN DASH}"
LONGEST = 24  # characters of a name, beyond which it goes on in a further line

Cells = Mapping[str, Mapping[str, str]]  # {system: {metric: text, of one or several lines}}


def score_cell(value: float | None, interval: Sequence[float] | None, spread: float | None = None) -> str:
    """A score, with its standard deviation if given, above its interval; empty where there is none."""
    if value is None:
        return ""
    deviation = "" if spread is None else f"±{spread:.3f}"
    return f"{value:.3f}{deviation}" + (f"\n{span(interval)}" if interval else "")


def span(interval: Sequence[float]) -> str:
    """An interval in words of three digits."""
    low, high = interval
    return f"{low:.3f}{DASH if low >= 0 else ' to '}{high:.3f}"


def score_tables(corner: str, cells: Cells, caption: str, width: int) -> list[Table]:
    """Scores of systems, of which no line is cut or broken in the middle.

    A system is a row; where the columns don't fit, a column; and where neither fits, a row of several tables.
    There is no table where no system has a score.

    Args:
        corner: what the systems are.
        cells: of each system.
        caption: below the tables.
        width: of the terminal, in characters.
    """
    if not _keys(cells):
        return []
    if not fits(corner, cells, width) and fits(corner, turned := _turned(cells), width):
        return [_table(corner, turned, caption)]
    tables = [_table(corner, part, "") for part in _parts(corner, cells, width)]
    tables[-1].caption = caption
    return tables


def fits(corner: str, cells: Cells, width: int) -> bool:
    """Whether a terminal of this width shows them as one table with a row for each system."""
    return 1 + sum(wide + 3 for wide in _widths(corner, cells)) <= width


def _widths(corner: str, cells: Cells) -> list[int]:
    """The width of the rows' names, then of each column."""
    columns = [(key, [row.get(key, "") for row in cells.values()]) for key in _keys(cells)]
    return [
        min(LONGEST, max(map(cell_len, [corner, *cells]))),
        *(max(map(_wide, [head.replace(" ", "\n"), *texts])) for head, texts in columns),
    ]


def _wide(text: str) -> int:
    return min(LONGEST, max(map(cell_len, text.split("\n"))))


def _keys(cells: Cells) -> list[str]:
    return list(dict.fromkeys(key for row in cells.values() for key in row))


def _turned(cells: Cells) -> Cells:
    return {key: {name: row.get(key, "") for name, row in cells.items()} for key in _keys(cells)}


def _parts(corner: str, cells: Cells, width: int) -> Iterator[Cells]:
    """The same rows with as many of the columns as fit, then with as many of the others, and so on."""
    keys = _keys(cells)
    while keys:
        most = len(keys)
        while most > 1 and not fits(corner, _only(cells, keys[:most]), width):
            most -= 1
        yield _only(cells, keys[:most])
        keys = keys[most:]


def _only(cells: Cells, keys: Sequence[str]) -> Cells:
    return {name: {key: row.get(key, "") for key in keys} for name, row in cells.items()}


def _table(corner: str, cells: Cells, caption: str) -> Table:
    several_lines = any("\n" in text for row in cells.values() for text in row.values())
    table = Table(caption=caption, caption_justify="left", show_lines=several_lines)
    keys = _keys(cells)
    for head, wide in zip([corner, *keys], _widths(corner, cells), strict=True):
        table.add_column(Text(head), width=wide, overflow="fold")
    for name, row in cells.items():
        table.add_row(*map(Text, [name, *(row.get(key, "") for key in keys)]))  # [a,b] is no markup
    return table
