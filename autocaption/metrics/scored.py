"""What a metric is, and the scores of a split.

Legend: I images, S statistics of a metric, R resamples.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autocaption.data.sources import ImageId
from autocaption.metrics.corpus import Corpus


class ImageMetric(Protocol):
    """A metric that follows from sums over images, so that it has a score of each image and an interval."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its scores."""
        ...

    def statistics(self, corpus: Corpus) -> NDArray:
        """statistics_IS: what is summed over images."""
        ...

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """{name: scores} of sums (..., S); NaN where there was nothing to score."""
        ...


class SplitMetric(Protocol):
    """A metric of a split as a whole, which no sum over its images gives."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its scores."""
        ...

    def split_scores(self, corpus: Corpus) -> dict[str, float]:
        """{name: score}."""
        ...


@dataclass(frozen=True)
class Scored:
    """The scores of a split.

    Attributes:
        ids: the images, in the order of the statistics.
        statistics: each image metric with its statistics_IS.
        split_scores: the scores of the split as a whole.
    """

    ids: Sequence[ImageId]
    statistics: Sequence[tuple[ImageMetric, NDArray]]
    split_scores: dict[str, float]

    def scores(self) -> dict[str, float]:
        """{name: score of the split}, without metrics that had nothing to score."""
        once_1I = np.ones((1, len(self.ids)))
        found = {name: float(score) for name, (score,) in self.resampled(once_1I).items()}
        return {**{name: score for name, score in found.items() if not np.isnan(score)}, **self.split_scores}

    def per_image(self) -> dict[str, NDArray]:
        """{name: scores_I}, each image scored as a split of its own."""
        return {
            name: scores_I
            for metric, statistics_IS in self.statistics
            for name, scores_I in metric.scores(statistics_IS).items()
        }

    def resampled(self, counts_RI: NDArray) -> dict[str, NDArray]:
        """{name: scores_R} of splits that have each image so many times; of image metrics only."""
        return {
            name: scores_R
            for metric, statistics_IS in self.statistics
            for name, scores_R in metric.scores(counts_RI @ statistics_IS).items()
        }


def names_of(metrics: Iterable[ImageMetric | SplitMetric]) -> list[str] | None:
    """The names of the scores of all; None where one, of the user's own, doesn't tell them."""
    every = [getattr(metric, "names", None) for metric in metrics]
    told = [names for names in every if names is not None]
    return list(chain.from_iterable(told)) if len(told) == len(every) else None


def with_count(values_I: NDArray) -> NDArray:
    """The statistics of a mean: each value and a 1; twice 0 for NaN, which counts for nothing."""
    scored_I = ~np.isnan(values_I)
    return np.stack([np.where(scored_I, values_I, 0.0), scored_I], axis=-1)


def mean(sums: NDArray) -> NDArray:
    """The mean of such statistics; NaN of nothing."""
    return ratio(sums[..., 0], sums[..., 1])


def ratio(numerator: NDArray, denominator: NDArray) -> NDArray:
    """Their quotient; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
