"""The captions of a split, tokenized for its metrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from autocaption.data.sources import ImageId
from autocaption.errors import UserError
from autocaption.metrics.ngrams import DocumentFrequencies, Words, hashed

CHUNK = 2**14  # images whose training captions are tokenized at a time


class Generated(NamedTuple):
    """An image's generated captions, the best one first, and its references, all as written."""

    id: ImageId
    captions: Sequence[str]
    references: Sequence[str]


class EvaluationTokenizer(Protocol):
    """Splits captions and references into words (tokenizers.py); metrics.json has its name."""

    name: str

    def __call__(self, captions: Sequence[str]) -> list[list[str]]:
        """The words of each caption."""
        ...


class TrainingCaptions:
    """What metrics need of the training split, read and counted once, where a metric asks for it.

    Args:
        read: gives the captions of each training image; None where there are none.
        tokenizer: the metrics' tokenizer.
    """

    def __init__(
        self, read: Callable[[], Iterable[Sequence[str]]] | None, tokenizer: EvaluationTokenizer
    ) -> None:
        self.read, self.tokenizer = read, tokenizer

    @cached_property
    def frequencies(self) -> DocumentFrequencies:
        """In how many training images each n-gram occurs."""
        return DocumentFrequencies.of(self._tokenized())

    @cached_property
    def texts(self) -> NDArray:
        """Every training caption, hashed."""
        return caption_hashes(chain.from_iterable(self._tokenized()))

    def _tokenized(self) -> Iterator[list[list[str]]]:
        if self.read is None:
            raise UserError("a metric needs the training captions, which this evaluation was not given")
        images = iter(self.read())
        while chunk := list(islice(images, CHUNK)):
            words = iter(self.tokenizer(list(chain.from_iterable(chunk))))
            yield from (list(islice(words, len(captions))) for captions in chunk)


class Corpus:
    """The captions and references of a split in words.

    Attributes:
        images: as they were written.
        captions: the words of each image's best caption.
        samples: of all its generated captions.
        references: of its references.
        training: the training split's captions.
    """

    def __init__(
        self, images: Sequence[Generated], tokenizer: EvaluationTokenizer, training: TrainingCaptions
    ) -> None:
        self.images, self.training = images, training
        texts = [text for image in images for text in (*image.captions, *image.references)]
        words = iter(tokenizer(texts))
        self.samples: list[list[Words]] = []
        self.references: list[list[Words]] = []
        for image in images:
            self.samples.append(list(islice(words, len(image.captions))))
            self.references.append(list(islice(words, len(image.references))))
        self.captions = [samples[0] for samples in self.samples]


def caption_hashes(captions: Iterable[Words]) -> NDArray:
    """A number for each tokenized caption, the same for the same words."""
    return np.fromiter((hashed(" ".join(words)) for words in captions), np.uint64)
