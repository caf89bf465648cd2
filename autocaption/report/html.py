"""Self-contained HTML pages: the frame, the style, tables."""

import html
from collections.abc import Iterable, Sequence

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: 0.2em 0.8em; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }}
td.error {{ white-space: normal; color: #a00; }}
tr.best {{ font-weight: bold; background: #eef7ee; }}
pre {{ background: #f5f5f5; padding: 1em; overflow-x: auto; }}
.wide {{ overflow-x: auto; }}
</style>
<script>{script}</script></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def page(title: str, body: Iterable[str], script: str = "") -> str:
    """A page.

    Args:
        title: plain text, also the heading.
        body: the parts of the body, as HTML.
        script: JavaScript that the body needs.
    """
    return _PAGE.format(title=html.escape(title), script=script, body="\n".join(body))


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """A table that scrolls sideways if it is too wide.

    Args:
        head: the column titles, as plain text.
        rows: the rows, made with `row`.
    """
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "\n".join([f"<tr>{cells}</tr>", *rows])
    return f'<div class="wide"><table>{body}</table></div>'


def row(cells: Iterable[str], style: str = "") -> str:
    """A row of cells made with `cell`; `style` is a CSS class such as `best`."""
    kind = f' class="{style}"' if style else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def cell(value: object, style: str = "") -> str:
    """A cell of plain text, empty for None; floats are rounded to five significant digits."""
    text = f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)
    kind = f' class="{style}"' if style else ""
    return f"<td{kind}>{html.escape(text)}</td>"
