"""BLEU-4 of single captions, smoothed, and the mean of it that the project's predecessor used."""

import logging

import numpy as np
from numpy.typing import NDArray

from autocaption.data.tokenizer import original
from autocaption.metrics.bleu import counts
from autocaption.metrics.corpus import Corpus
from autocaption.metrics.scored import mean, with_count

log = logging.getLogger(__name__)

N = 4
EPSILON = 0.1  # stands for no match of an order: nltk's smoothing method1


class SentenceBleu:
    """Mean sentence BLEU-4 by the original's rule, to compare with its results only.

    Whatever the evaluation tokenizer, captions are split by the rule `original`; references with fewer than
    two words left are dropped, and images without any reference left are left out.
    """

    names = ("sentence_bleu4",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Score and 1 of each image, or twice 0."""
        captions = [original(image.captions[0]) for image in corpus.images]
        references = [
            [words for words in map(original, image.references) if len(words) > 1] for image in corpus.images
        ]
        kept = np.array([bool(texts) for texts in references], bool)
        if not kept.all():
            log.info("the original's BLEU leaves out %d images: no reference of two words", (~kept).sum())
        scores_I = np.full(len(captions), np.nan)
        scores_I[kept] = sentence_bleu4(
            counts(
                [words for words, keep in zip(captions, kept, strict=True) if keep],
                [texts for texts in references if texts],
                N,
            )
        )
        return with_count(scores_I)

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`sentence_bleu4`, between 0 and 1."""
        return {"sentence_bleu4": mean(sums)}


def sentence_bleu4(counts_IS: NDArray) -> NDArray:
    """BLEU-4 of each caption, between 0 and 1, from its counts (bleu.py) with n-grams of up to 4 words.

    An order without a match counts as 0.1 matches (Chen & Cherry 2014, method 1).
    """
    matches_IN, grams_IN = counts_IS[:, :N], counts_IS[:, N : 2 * N].clip(min=1)
    length_I, closest_I = counts_IS[:, -2], counts_IS[:, -1]
    precisions_IN = np.where(matches_IN, matches_IN, EPSILON) / grams_IN
    penalty_I = np.minimum(0.0, 1 - closest_I / length_I.clip(min=1))
    scores_I = np.exp(penalty_I + np.log(precisions_IN).mean(-1))
    return np.where(matches_IN[:, 0], scores_I, 0.0)  # without a common word there is nothing to smooth
