"""Bootstrap intervals of scores, and paired comparisons of two systems.

A resample draws as many images as there are, with replacement (Koehn 2004). Metrics follow from sums over
images, so that a thousand resamples are a matrix product.

Legend: I images, R resamples, C resamples at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autocaption.data.sources import ImageId
from autocaption.metrics.scored import Scored

AT_A_TIME = 2**24  # counts in memory


class Interval(NamedTuple):
    """A score and its bootstrap interval."""

    score: float
    low: float
    high: float


class Comparison(NamedTuple):
    """How much higher one system scores than another.

    Attributes:
        difference: of the scores, the first minus the second.
        low: lower end of its bootstrap interval.
        high: upper end.
        p: two-sided p-value of no difference: twice the share of resamples on the other side of 0.
    """

    difference: float
    low: float
    high: float
    p: float


# {(system, other): {metric: how much higher the first is}}
Differences = Mapping[tuple[str, str], Mapping[str, Comparison]]


def intervals(
    scored: Scored, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """{name: percentile interval} of each image metric.

    Document frequencies of CIDEr-D are those of the whole split, not of a resample.

    Args:
        scored: the scores of a split.
        resamples: the number of resamples.
        level: the share of resamples within an interval.
        seed: seeds the draws; two systems with the same images get the same ones.
    """
    found = Resampled.of(scored, resamples, seed)
    return {
        name: Interval(found.scores[name], *_ends(scores_R, level)) for name, scores_R in found.drawn.items()
    }


def compare(
    one: Scored, other: Scored, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Comparison]:
    """{name: comparison} of two systems on the same images, in each image metric that both have.

    Args:
        one: the scores of a system.
        other: those of the other.
        resamples: the number of resamples; each draws the same images of both.
        level: the share of resamples within an interval.
        seed: seeds the draws.

    Raises:
        ValueError: their images differ.
    """
    first, second = (Resampled.of(scored, resamples, seed) for scored in (one, other))
    return first.minus(second, level)


@dataclass(frozen=True)
class Resampled:
    """What a system, or the mean of several, scores on a split and on resamples of its images.

    Attributes:
        ids: the images.
        scores: {name: score} of the split, of image metrics that had something to score.
        drawn: {name: scores_R} likewise; the same images and seed give the same resamples.
    """

    ids: Sequence[ImageId]
    scores: Mapping[str, float]
    drawn: Mapping[str, NDArray]

    @classmethod
    def of(cls, scored: Scored, resamples: int = 1000, seed: int = 0) -> "Resampled":
        """A system; `seed` seeds the draws."""
        scores, drawn = scored.scores(), _drawn(scored, resamples, seed)
        names = [name for name in drawn if name in scores]
        return cls(scored.ids, {name: scores[name] for name in names}, {name: drawn[name] for name in names})

    @classmethod
    def mean(cls, systems: Sequence["Resampled"]) -> "Resampled":
        """The mean score of several systems, such as seeds of an experiment, in each metric that all have.

        Raises:
            ValueError: their images differ.
        """
        _require_same_images(systems)
        names = [name for name in systems[0].scores if all(name in one.scores for one in systems)]
        return cls(
            systems[0].ids,
            {name: fmean(one.scores[name] for one in systems) for name in names},
            {name: np.mean([one.drawn[name] for one in systems], axis=0) for name in names},
        )

    def minus(self, other: "Resampled", level: float = 0.95) -> dict[str, Comparison]:
        """{name: how much higher this one scores than the other}, in each metric that both have.

        Raises:
            ValueError: their images differ.
        """
        _require_same_images([self, other])
        return {
            name: _comparison(score - other.scores[name], self.drawn[name] - other.drawn[name], level)
            for name, score in self.scores.items()
            if name in other.scores
        }


def _require_same_images(systems: Sequence[Resampled]) -> None:
    if any(list(one.ids) != list(systems[0].ids) for one in systems):
        raise ValueError("only systems that captioned the same images can be compared")


def _comparison(difference: float, difference_R: NDArray, level: float) -> Comparison:
    difference_R = difference_R[~np.isnan(difference_R)]  # where both had something to score
    rarer = min((difference_R <= 0).sum(), (difference_R >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(difference_R) + 1))
    return Comparison(difference, *_ends(difference_R, level), float(p))


def _drawn(scored: Scored, resamples: int, seed: int) -> dict[str, NDArray]:
    """{name: scores_R}."""
    parts = [scored.resampled(counts_CI) for counts_CI in _counts(len(scored.ids), resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _counts(images: int, resamples: int, seed: int) -> Iterator[NDArray]:
    """counts_CI: how often each image was drawn."""
    random, size = np.random.default_rng(seed), max(1, AT_A_TIME // images)
    for start in range(0, resamples, size):
        C = min(size, resamples - start)
        yield random.multinomial(images, np.full(images, 1 / images), size=C).astype(np.float64)


def _ends(scores_R: NDArray, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(scores_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
