"""Paired comparisons of systems: for each metric how much higher each is than each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from autocaption.metrics.bootstrap import Comparison, Differences
from autocaption.report.examples import by_importance


@dataclass(frozen=True)
class Pair:
    """Two systems in one metric.

    Attributes:
        one: the place of the first system among those of the page; likewise `other`.
        found: how much higher the first one scores.
        bar: where low end, difference and high end lie on an axis of which 0 is the middle, in percent.
    """

    one: int
    other: int
    found: Comparison
    bar: tuple[float, float, float]

    @property
    def higher(self) -> int | None:
        """The system that scores higher; None where the interval has 0 in it."""
        if self.found.low <= 0 <= self.found.high:
            return None
        return self.one if self.found.low > 0 else self.other


def pairs(names: Sequence[str], differences: Differences) -> dict[str, list[Pair]]:
    """{metric: its pairs, in their order and on one axis}, metrics that people look at first in front.

    Args:
        names: of the systems of the page.
        differences: of pairs of them.
    """
    metrics = by_importance(list(dict.fromkeys(name for found in differences.values() for name in found)))
    return {metric: _pairs(names, differences, metric) for metric in metrics}


def _pairs(names: Sequence[str], differences: Differences, metric: str) -> list[Pair]:
    compared = {pair: found[metric] for pair, found in differences.items() if metric in found}
    farthest = max(
        abs(end) for found in compared.values() for end in (found.low, found.difference, found.high)
    )

    def at(value: float) -> float:
        return round(50 + 50 * value / (farthest or 1), 1)

    return [
        Pair(
            names.index(one),
            names.index(other),
            found,
            (at(found.low), at(found.difference), at(found.high)),
        )
        for (one, other), found in compared.items()
    ]
