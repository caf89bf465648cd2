"""ROUGE-L."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autocaption.metrics.corpus import Corpus
from autocaption.metrics.ngrams import Words
from autocaption.metrics.scored import mean, with_count

BETA = 1.2  # weighs recall over precision


class RougeL:
    """Mean ROUGE-L (Lin 2004) as in the COCO caption evaluation.

    The F-score, with beta 1.2, of the best precision and the best recall over the references, which may be
    two different references; the summarisation community's ROUGE-L is another formula.
    """

    names = ("rouge_l",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Score and 1 of each image."""
        scores = map(_score, corpus.captions, corpus.references)
        return with_count(np.fromiter(scores, np.float64, len(corpus.captions)))

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`rouge_l`, between 0 and 1."""
        return {"rouge_l": mean(sums)}


def _score(caption: Words, references: Sequence[Words]) -> float:
    caption = caption or [""]  # coco-caption takes no words for an empty one
    masks: dict[str, int] = {}
    for place, word in enumerate(caption):
        masks[word] = masks.get(word, 0) | 1 << place
    texts = [words or [""] for words in references]
    shared = [_common(masks, len(caption), words) for words in texts]
    precision = max(shared) / len(caption)
    recall = max(number / len(words) for number, words in zip(shared, texts, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def _common(masks: dict[str, int], length: int, words: Words) -> int:
    """The length of the longest common subsequence, its table a row at a time (Hyyro 2004).

    Args:
        masks: for each word of the one text, the bits of its places.
        length: of that text.
        words: the other text.
    """
    full = (1 << length) - 1
    row = full
    for word in words:
        found = row & masks.get(word, 0)
        row = (row + found | row - found) & full
    return length - row.bit_count()
