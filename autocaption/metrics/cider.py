"""CIDEr-D: how much a caption says of what an image's references say, rare words counting more.

Legend: I images, K captions, T texts, O orders (n-grams of 1 to 4 words), G terms: the different n-grams of
each text; M pairs of a caption's term with the same one of a reference.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autocaption.metrics.corpus import Corpus
from autocaption.metrics.ngrams import ORDERS, DocumentFrequencies, Words, ngrams
from autocaption.metrics.scored import mean, with_count

SIGMA = 6.0  # of the penalty for a difference in length


class Vectors(NamedTuple):
    """Texts as vectors of tf-idf weights, one for each order of n-grams.

    Attributes:
        text_G: the text of each term, ascending.
        gram_G: the n-gram, ascending within a text.
        order_G: its number of words, less one.
        weight_G: term frequency times inverse document frequency.
        norm_TO: the length of each vector.
        bigrams_T: the number of bigrams in each text.
    """

    text_G: NDArray
    gram_G: NDArray
    order_G: NDArray
    weight_G: NDArray
    norm_TO: NDArray
    bigrams_T: NDArray


def vectors(texts: Sequence[Words], frequencies: DocumentFrequencies) -> Vectors:
    """The tf-idf vectors of tokenized texts."""
    text_G, order_G, gram_G = ngrams(texts)
    order = np.lexsort((gram_G, text_G))
    text_G, order_G, gram_G = text_G[order], order_G[order], gram_G[order]
    new = np.concatenate([[True], (text_G[1:] != text_G[:-1]) | (gram_G[1:] != gram_G[:-1])])
    first = np.flatnonzero(new[: len(text_G)])
    count_G = np.diff(np.append(first, len(text_G)))
    text_G, order_G, gram_G = text_G[first], order_G[first], gram_G[first]
    idf_G = np.log(max(frequencies.documents, 1)) - np.log(frequencies(gram_G).clip(min=1))
    weight_G = count_G * idf_G
    squares = np.bincount(text_G * ORDERS + order_G, weight_G**2, len(texts) * ORDERS)
    bigrams_T = np.array([max(len(text) - 1, 0) for text in texts])
    return Vectors(text_G, gram_G, order_G, weight_G, np.sqrt(squares.reshape(-1, ORDERS)), bigrams_T)


class CiderD:
    """CIDEr-D (Vedantam et al. 2015, section 7) against references that are prepared once.

    As coco-caption computes it, which measures lengths in bigrams and scores between 0 and 10. Fast
    enough for a reward: a caption takes about 30 microseconds.

    Args:
        references: the tokenized references of each image, at least one.
        frequencies: of the n-grams; those of the evaluated images or of the training split.
    """

    def __init__(self, references: Sequence[Sequence[Words]], frequencies: DocumentFrequencies) -> None:
        self.frequencies = frequencies
        self.number_I = np.array([len(texts) for texts in references])
        self.vectors = vectors(list(chain.from_iterable(references)), frequencies)
        self.grams, place_G = np.unique(self.vectors.gram_G, return_inverse=True)
        image_T = np.repeat(np.arange(len(references)), self.number_I)
        key_G = image_T[self.vectors.text_G] * len(self.grams) + place_G
        self.order = np.argsort(key_G, kind="stable")
        self.keys = key_G[self.order]

    def score(self, captions: Sequence[Words], images: NDArray | None = None) -> NDArray:
        """The score of each tokenized caption.

        Args:
            captions: K captions, of the same image or of several.
            images: the index of each caption's image in `references`; None for 0, 1, 2, ...
        """
        image_K = np.arange(len(captions)) if images is None else images
        own, theirs = vectors(captions, self.frequencies), self.vectors
        if not len(own.gram_G) or not len(self.grams):
            return np.zeros(len(captions))
        place_G = np.searchsorted(self.grams, own.gram_G).clip(max=len(self.grams) - 1)
        known = np.flatnonzero(self.grams[place_G] == own.gram_G)
        key = image_K[own.text_G[known]] * len(self.grams) + place_G[known]
        start, end = np.searchsorted(self.keys, key), np.searchsorted(self.keys, key, side="right")
        number = end - start
        own_M = np.repeat(known, number)
        shift = np.arange(len(own_M)) - np.repeat(number.cumsum() - number, number)
        their_M = self.order[np.repeat(start, number) + shift]
        caption_M, reference_M = own.text_G[own_M], theirs.text_G[their_M]
        order_M, weight_M = own.order_G[own_M], theirs.weight_G[their_M]
        product_M = np.minimum(own.weight_G[own_M], weight_M) * weight_M
        norms_M = own.norm_TO[caption_M, order_M] * theirs.norm_TO[reference_M, order_M]
        cosine_M = np.divide(product_M, norms_M, out=np.zeros(len(own_M)), where=norms_M > 0)
        gap_M = own.bigrams_T[caption_M] - theirs.bigrams_T[reference_M]
        summed_K = np.bincount(
            caption_M, cosine_M * np.exp(-(gap_M**2) / (2 * SIGMA**2)), minlength=len(captions)
        )
        return 10 * summed_K / (ORDERS * self.number_I[image_K])


class Cider:
    """Mean CIDEr-D with the document frequencies of the evaluated references, as coco-caption has it.

    It compares systems on one split only: with other images, the same caption scores otherwise.
    """

    names = ("cider",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Score and 1 of each image."""
        scorer = CiderD(corpus.references, DocumentFrequencies.of(corpus.references))
        return with_count(scorer.score(corpus.captions))

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`cider`, between 0 and 10."""
        return {"cider": mean(sums)}


class CiderTrainDf:
    """Mean CIDEr-D with the document frequencies of the training split: comparable between splits."""

    names = ("cider_train_df",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """Score and 1 of each image."""
        return with_count(CiderD(corpus.references, corpus.training.frequencies).score(corpus.captions))

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`cider_train_df`, between 0 and 10."""
        return {"cider_train_df": mean(sums)}
