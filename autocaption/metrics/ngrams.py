"""N-grams of many texts as flat arrays, and in how many documents they occur.

A word is the first 64 bits of its BLAKE2 hash, and an n-gram a polynomial of its words, so that n-grams of a
million captions are numbers in one array, the same ones in every process. Two of n n-grams are mixed up with
a probability of n^2 / 2^65.

Legend: T texts, W words, G n-grams, D distinct n-grams.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = Sequence[str]

ORDERS = 4  # n-grams of 1 to 4 words
BASE = np.uint64(0x9E3779B97F4A7C17)  # of the polynomial; BASE - 1 has one factor of 2, so "a b" is not "b a"
CHUNK = 2**14  # documents counted at a time


class Ngrams(NamedTuple):
    """Every n-gram of every text, by order, then text, then place.

    Attributes:
        text_G: the text that it stands in.
        order_G: its number of words, less one.
        gram_G: uint64, the n-gram.
    """

    text_G: NDArray
    order_G: NDArray
    gram_G: NDArray


def hashed(text: str) -> int:
    """64 bits that stand for a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


_word = functools.cache(hashed)  # as many as there are different words


def ngrams(texts: Sequence[Words], orders: int = ORDERS) -> Ngrams:
    """The n-grams of each text of at most `orders` words."""
    lengths_T = np.fromiter(map(len, texts), np.int64, len(texts))
    words_W = np.fromiter(map(_word, chain.from_iterable(texts)), np.uint64, lengths_T.sum())
    text_W = np.repeat(np.arange(len(texts)), lengths_T)
    left_W = np.repeat(lengths_T.cumsum(), lengths_T) - np.arange(len(words_W))  # words from here to the end
    at, gram, found = np.arange(len(words_W)), words_W, [(text_W, words_W)]
    for n in range(1, orders):
        longer = left_W[at] > n
        at = at[longer]
        gram = gram[longer] * BASE + words_W[at + n]
        found.append((text_W[at], gram))
    order_G = np.repeat(np.arange(orders), [len(gram) for _, gram in found])
    return Ngrams(np.concatenate([t for t, _ in found]), order_G, np.concatenate([g for _, g in found]))


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many documents (images with all their captions) each n-gram occurs.

    Attributes:
        documents: the number of documents.
        grams_D: the n-grams, sorted.
        counts_D: the number of documents that have each.
    """

    documents: int
    grams_D: NDArray
    counts_D: NDArray

    @classmethod
    def of(cls, documents: Iterable[Sequence[Words]]) -> "DocumentFrequencies":
        """Count the documents, each a list of tokenized captions."""
        total, grams, counts = 0, np.empty(0, np.uint64), np.empty(0, np.int64)
        for chunk in _chunks(documents):
            document_T = np.repeat(np.arange(len(chunk)), [len(texts) for texts in chunk])
            text_G, _, gram_G = ngrams([text for texts in chunk for text in texts])
            document_G = document_T[text_G]
            order = np.lexsort((document_G, gram_G))
            gram_G, document_G = gram_G[order], document_G[order]
            repeated = (gram_G[1:] == gram_G[:-1]) & (document_G[1:] == document_G[:-1])
            once = np.concatenate([[True], ~repeated]) if len(gram_G) else np.empty(0, bool)
            new, number = np.unique(gram_G[once], return_counts=True)
            grams, place = np.unique(np.concatenate([grams, new]), return_inverse=True)
            counts = np.bincount(place, np.concatenate([counts, number]), len(grams)).astype(np.int64)
            total += len(chunk)
        return cls(total, grams, counts)

    def __call__(self, gram_G: NDArray) -> NDArray:
        """The number of documents that have each n-gram; 0 for an unknown one."""
        if not len(self.grams_D):
            return np.zeros(len(gram_G), np.int64)
        place_G = np.searchsorted(self.grams_D, gram_G).clip(max=len(self.grams_D) - 1)
        return np.where(self.grams_D[place_G] == gram_G, self.counts_D[place_G], 0)


def _chunks(documents: Iterable[Sequence[Words]]) -> Iterator[list[Sequence[Words]]]:
    remaining = iter(documents)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
