"""Progress bars."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text

T = TypeVar("T")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.0f}/s")


def track(
    items: Iterable[T], what: str, total: int, size: Callable[[T], int] = lambda item: 1, done: int = 0
) -> Iterator[T]:
    """Iterate with a progress bar (count, rate, time left) on a terminal.

    Args:
        items: the items; each is counted when the next one is requested.
        what: the description, such as "Encoding".
        total: the total size, that of earlier items included.
        size: the size of an item.
        done: the size of earlier items.
    """
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeLeft())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task, size(item))
