"""What overlap with references doesn't show: whether captions differ from image to image.

Legend: I images, K captions of an image, D distinct n-grams.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from autocaption.metrics.cider import vectors
from autocaption.metrics.corpus import Corpus, caption_hashes
from autocaption.metrics.ngrams import ORDERS, DocumentFrequencies, ngrams
from autocaption.metrics.scored import mean, with_count


class MeanLength:
    """Words a caption."""

    names = ("mean_length",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Words and 1 of each image."""
        return with_count(np.array([len(words) for words in corpus.captions], np.float64))

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`mean_length`."""
        return {"mean_length": mean(sums)}


class Novel:
    """The share of images whose caption is no training caption."""

    names = ("novel",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Whether it is new, and 1, of each image."""
        known = np.isin(caption_hashes(corpus.captions), corpus.training.texts)
        return with_count((~known).astype(np.float64))

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`novel`, between 0 and 1."""
        return {"novel": mean(sums)}


class SelfCider:
    """Self-CIDEr diversity of several captions of an image (Wang & Chan 2019).

    0 where all captions of an image say the same in the same words, 1 where they share none: minus the
    logarithm, to the base of their number, of the largest singular value's share in all singular values of
    the matrix of CIDEr similarities. Images with one caption have none.
    """

    names = ("self_cider",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Diversity and 1 of each image with several captions."""
        several = [i for i, samples in enumerate(corpus.samples) if len(samples) > 1]
        diversity_I = np.full(len(corpus.samples), np.nan)
        if several:
            frequencies = DocumentFrequencies.of(corpus.references)
            texts = [words for i in several for words in corpus.samples[i]]
            found = vectors(texts, frequencies)
            norm_G = found.norm_TO[found.text_G, found.order_G]
            unit_G = np.divide(found.weight_G, norm_G, out=np.zeros(len(norm_G)), where=norm_G > 0)
            ends = np.cumsum([len(corpus.samples[i]) for i in several])
            terms = np.searchsorted(found.text_G, np.concatenate([[0], ends]))
            for i, end, start_G, end_G in zip(several, ends, terms, terms[1:], strict=False):
                K = len(corpus.samples[i])
                part = slice(start_G, end_G)
                grams_D, column = np.unique(found.gram_G[part], return_inverse=True)
                units_KD = np.zeros((K, len(grams_D)))
                units_KD[found.text_G[part] - (end - K), column] = unit_G[part]
                diversity_I[i] = _diversity(units_KD @ units_KD.T / ORDERS)
        return with_count(diversity_I)

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`self_cider`, between 0 and 1."""
        return {"self_cider": mean(sums)}


def _diversity(similarity_KK: NDArray) -> float:
    values_K = np.sqrt(np.linalg.eigvalsh(similarity_KK).clip(min=0))
    if not values_K.any():
        return 0.0
    return np.log(values_K.sum() / values_K.max()) / np.log(len(values_K))  # this way round, 0 is not -0


class Diversity:
    """Of a split's captions: different words and pairs of words, and how often the most frequent one recurs.

    They shrink with every repeated image, so that a bootstrap gives no interval of them.
    """

    names = ("distinct1", "distinct2", "vocabulary", "most_frequent")

    def split_scores(self, corpus: Corpus) -> dict[str, float]:
        """`distinct1` and `distinct2`, `vocabulary` and `most_frequent`.

        distinct-n (Li et al. 2016) is the number of different n-grams as a share of all, `vocabulary` the
        number of different words, `most_frequent` the share of images with the most frequent caption.
        """
        found = ngrams(corpus.captions, orders=2)
        words, pairs = (found.gram_G[found.order_G == order] for order in (0, 1))
        different = len(np.unique(words))
        frequent = Counter(tuple(caption) for caption in corpus.captions).most_common(1)[0][1]
        return {
            "distinct1": different / max(len(words), 1),
            "distinct2": len(np.unique(pairs)) / max(len(pairs), 1),
            "vocabulary": float(different),
            "most_frequent": frequent / len(corpus.captions),
        }
