"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from autocaption.report.score_tables import span

if TYPE_CHECKING:  # which a process that only starts others doesn't wait for
    from torch import nn


def parameter_count(module: "nn.Module", depth: int = 2) -> dict[str, tuple[int, int]]:
    """{part: (parameters, trainable parameters)}; a shared parameter is counted once.

    Args:
        module: the model.
        depth: how many levels of names make a part: 1 for encoder and decoder, 2 for their parts.
    """
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in module.named_parameters():
        part = ".".join(name.split(".")[:depth])
        total, trained = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (total + size, trained + size * parameter.requires_grad)
    return counts


def parameter_table(model: "nn.Module") -> Table:
    """Parameter counts of encoder and decoder, then of their parts."""
    table = Table("parameters", "total", "trainable")
    for depth in (1, 2):
        for part, (total, trained) in parameter_count(model, depth).items():
            table.add_row(part, f"{total:,}", f"{trained:,}")
    return table


def metrics_table(metrics: Mapping[str, Any], splits: Sequence[str]) -> Table:
    """A row for each metric, a column for each split that has any, and one for the test's intervals."""
    intervals = {key.partition("/")[2]: span(one) for key, one in (metrics.get("intervals") or {}).items()}
    scored = [split for split in splits if any(key.startswith(f"{split}/") for key in metrics)]
    names = dict.fromkeys(key.partition("/")[2] for key in metrics if key.partition("/")[0] in scored)
    table = Table("", *scored, *(["95 % interval"] if intervals else []))
    for name in names:
        values = (metrics.get(f"{split}/{name}", float("nan")) for split in scored)
        shown = (f"{value:.3f}" if value < 100 else f"{value:,.0f}" for value in values)
        table.add_row(name, *shown, *([intervals.get(name, "")] if intervals else []))
    return table
