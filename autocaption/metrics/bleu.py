"""Corpus BLEU.

Legend: I images, T references, W words, N orders of n-grams, S statistics.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from autocaption.checks import whole
from autocaption.metrics.corpus import Corpus
from autocaption.metrics.ngrams import Words


class Bleu:
    """Corpus BLEU-1 to BLEU-n (Papineni et al. 2002) as in the COCO caption evaluation.

    n-grams are clipped by the reference that has most of them, and lengths are compared with the closest
    reference, the shorter of two. Where an order has no match in a whole split, its BLEU is 0 (coco-caption
    adds 1e-15 to each count).

    Args:
        n_gram: the longest n-grams.
    """

    def __init__(self, n_gram: int = 4) -> None:
        self.n_gram = whole("metrics.image_metrics.bleu.n_gram", n_gram, 1)
        self.names = tuple(f"bleu{n}" for n in range(1, n_gram + 1))

    def statistics(self, corpus: Corpus) -> NDArray:
        """Matches and n-grams of each order, and the lengths of caption and closest reference."""
        return counts(corpus.captions, corpus.references, self.n_gram)

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`bleu1` to `bleuN`, between 0 and 1."""
        N = self.n_gram
        length, closest = sums[..., -2], sums[..., -1]
        with np.errstate(divide="ignore"):  # without a match, exp(log(0)) is 0
            logs = np.log(sums[..., :N] / sums[..., N : 2 * N].clip(min=1))
        penalty = np.minimum(0.0, 1 - closest / length.clip(min=1e-9))
        return {name: np.exp(penalty + logs[..., :n].mean(-1)) for n, name in enumerate(self.names, 1)}


def counts(captions: Sequence[Words], references: Sequence[Sequence[Words]], n_gram: int) -> NDArray:
    """int64 statistics_IS, S = 2N + 2: matches and n-grams of each order, length of caption and reference."""
    texts = list(chain.from_iterable(references))
    images, T = len(captions), len(texts)
    if not images:
        return np.zeros((0, 2 * n_gram + 2), np.int64)
    length_I, length_T = _lengths(captions), _lengths(texts)
    number_I = _lengths(references)
    image_T = np.repeat(np.arange(images), number_I)
    far_T = np.abs(length_T - length_I[image_T])
    closest_I = np.minimum.reduceat((far_T << 32) + length_T, number_I.cumsum() - number_I) & 0xFFFFFFFF

    numbers = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(captions)))}
    unknown = len(numbers)
    own_W = np.array([numbers[word] for words in captions for word in words], np.int64)
    their_W = np.array([numbers.get(word, unknown) for words in texts for word in words], np.int64)
    image_W, own_end_W = np.repeat(np.arange(images), length_I), np.repeat(length_I.cumsum(), length_I)
    text_W, their_end_W = np.repeat(np.arange(T), length_T), np.repeat(length_T.cumsum(), length_T)

    # Where n-grams of captions and references start, and the n-gram: a number of its image and its words.
    # References keep only places whose n-gram the caption has, since no longer one can match elsewhere.
    own, own_gram = np.arange(len(own_W)), image_W
    their, their_gram = np.arange(len(their_W)), image_T[text_W]
    matches_IN = np.zeros((images, n_gram), np.int64)
    for n in range(n_gram):
        whole = own + n < own_end_W[own]
        own, own_gram = own[whole], own_gram[whole]
        whole = their + n < their_end_W[their]
        their, their_gram = their[whole], their_gram[whole]
        if not len(own):
            break
        gram = own_gram * (unknown + 1) + own_W[own + n]
        grams, first, own_gram, times = np.unique(
            gram, return_index=True, return_inverse=True, return_counts=True
        )
        gram = their_gram * (unknown + 1) + their_W[their + n]
        place = np.searchsorted(grams, gram).clip(max=len(grams) - 1)
        shared = grams[place] == gram
        their, their_gram = their[shared], place[shared]
        pairs, their_times = np.unique(their_gram * T + text_W[their], return_counts=True)
        most = np.zeros(len(grams), np.int64)
        np.maximum.at(most, pairs // T, their_times)
        matches_IN[:, n] = np.bincount(image_W[own[first]], np.minimum(times, most), images)
    grams_IN = np.maximum(length_I[:, None] - np.arange(n_gram), 0)
    return np.concatenate([matches_IN, grams_IN, length_I[:, None], closest_I[:, None]], axis=1)


def _lengths(lists: Sequence[Sequence]) -> NDArray:
    return np.fromiter(map(len, lists), np.int64, len(lists))
