"""Tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from torch import nn


def parameter_count(module: nn.Module, depth: int = 2) -> dict[str, tuple[int, int]]:
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


def parameter_table(model: nn.Module) -> Table:
    """Parameter counts of encoder and decoder, then of their parts."""
    table = Table("parameters", "total", "trainable")
    for depth in (1, 2):
        for part, (total, trained) in parameter_count(model, depth).items():
            table.add_row(part, f"{total:,}", f"{trained:,}")
    return table


def metrics_table(metrics: Mapping[str, float], splits: Sequence[str]) -> Table:
    """A row for each split that was scored, a column for each metric."""
    scored = [split for split in splits if f"{split}/loss" in metrics]
    names = sorted({key.split("/")[1] for key in metrics if "/" in key} - {"loss"})
    table = Table("", *names)
    for split in scored:
        table.add_row(split, *(f"{metrics.get(f'{split}/{name}', float('nan')):.3f}" for name in names))
    return table
