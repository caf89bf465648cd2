"""Captions to token ids and back, and the rules that split a caption into words."""

import logging
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Protocol

from autocaption.checks import whole
from autocaption.errors import UserError

log = logging.getLogger(__name__)

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)

_KEPT = "\u200c\u200d"  # zero-width (non-)joiners: letters of Persian and of Indic scripts hang on them


class _Deleted(dict[int, int | None]):
    """For str.translate: deletes punctuation of every script, ASCII's symbols, and invisible characters."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        category = unicodedata.category(character)
        deleted = (
            category[0] == "P"
            or category == "Sk"  # such as a spacing accent in place of an apostrophe
            or (category == "Cf" and character not in _KEPT)
            or character in string.punctuation
        )
        self[code] = None if deleted else code
        return self[code]


_DELETED = _Deleted()
# The same for ASCII, as bytes, which is four times as fast.
_LOWER = bytes(range(256)).lower()
_DELETED_BYTES = bytes(code for code in range(128) if _DELETED[code] is None)


def until_end(tokens: Sequence[int]) -> tuple[int, ...]:
    """The tokens before <eos>, or <pad>."""
    end = next((i for i, token in enumerate(tokens) if token in (EOS, PAD)), len(tokens))
    return tuple(tokens[:end])


def words(caption: str) -> list[str]:
    """Lower case, split at white space, punctuation deleted ("T-shirt's" is "tshirts"), for any script.

    The rule behind the tokens of Karpathy & Fei-Fei (2015), which most published results use. Words are in
    Unicode's composed form (NFC), so that an accent counts the same however it was typed.
    """
    if caption.isascii():
        return caption.encode().translate(_LOWER, _DELETED_BYTES).decode().split()
    caption = unicodedata.normalize("NFC", caption)
    # Again, since a deleted character may have stood between a letter and its accent.
    return unicodedata.normalize("NFC", caption.lower().translate(_DELETED)).split()


def original(caption: str) -> list[str]:
    """`words` without one-letter words ("a") and words with digits.

    The rule of the project that autocaption grew from, to compare with its results only: BLEU under this
    rule cannot be compared with any other.
    """
    return [word for word in words(caption) if len(word) > 1 and word.isalpha()]


class Tokenizer(Protocol):
    """Captions to token ids and back.

    Attributes:
        vocabulary: the tokens of ids 0, 1, ...; SPECIAL comes first.
    """

    vocabulary: list[str]

    @property
    def saved(self) -> Any:
        """A plain value that makes the same tokenizer again, as the constructor's `vocabulary`."""
        ...

    def fit(self, captions: Iterable[str]) -> "Tokenizer":
        """A tokenizer that has learnt from these captions."""
        ...

    def normalize(self, caption: str) -> str:
        """The caption's words separated by single spaces."""
        ...

    def encode(self, caption: str) -> list[int]:
        """<bos>, ids, <eos>; without <eos> where `tokenizer.max_length` cut the caption."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The normalised caption of the ids before the first <eos>."""
        ...


def encoded(ids: list[int], max_length: int) -> list[int]:
    """<bos>, the ids, <eos>; or <bos> and the first `max_length` of more ids."""
    return [BOS, *ids, EOS] if len(ids) <= max_length else [BOS, *ids[:max_length]]


class _Ids(dict[str, int]):
    """Ids of words; UNK for all others."""

    def __missing__(self, word: str) -> int:
        return UNK


class WordTokenizer:
    """A token for each word that the training captions use often enough.

    The vocabulary comes from the training captions alone, in order of frequency, then alphabetically, so
    that it is always the same.

    Args:
        rule: splits a caption into words: `words`, `original`, or any `str -> list[str]`.
        min_count: words that are rarer in the training captions become <unk>.
        max_length: most words of an encoded caption.
        vocabulary: the words of ids 0, 1, ...; None before `fit`.
    """

    def __init__(
        self,
        rule: Callable[[str], list[str]],
        min_count: int,
        max_length: int,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        if not callable(rule):
            raise UserError("tokenizer.rule is no function; give one from a caption to its words")
        self.rule, self.min_count = rule, whole("tokenizer.min_count", min_count, 0)
        self.max_length = whole("tokenizer.max_length", max_length, 1)
        self.vocabulary: list[str] = list(vocabulary or SPECIAL)
        self._ids = _Ids((word, i) for i, word in enumerate(self.vocabulary))

    def fit(self, captions: Iterable[str]) -> "WordTokenizer":
        """A tokenizer with the vocabulary of these captions.

        Raises:
            UserError: no word occurs `min_count` times.
        """
        counts = Counter(chain.from_iterable(map(self.rule, captions)))
        kept = sorted((-count, word) for word, count in counts.items() if count >= self.min_count)
        if not kept:
            raise UserError(
                f"no word of the training captions occurs {self.min_count} times; lower tokenizer.min_count"
            )
        vocabulary = [*SPECIAL, *(word for _, word in kept)]
        covered = -sum(count for count, _ in kept) / counts.total()
        log.info(
            "Vocabulary: %s of %s words, those that occur %d times or more; %.2f %% of the training text",
            *(f"{len(kept):,}", f"{len(counts):,}", self.min_count, 100 * covered),
        )
        return WordTokenizer(self.rule, self.min_count, self.max_length, vocabulary)

    @property
    def saved(self) -> list[str]:
        """The vocabulary."""
        return self.vocabulary

    def normalize(self, caption: str) -> str:
        """The caption's words separated by single spaces."""
        return " ".join(self.rule(caption))

    def encode(self, caption: str) -> list[int]:
        """<bos>, the ids of the words, <eos>; a longer caption is cut, and its cut is no <eos> to learn."""
        return encoded(list(map(self._ids.__getitem__, self.rule(caption))), self.max_length)

    def decode(self, ids: Iterable[int]) -> str:
        """The words before the first <eos>, without <pad> and <bos>."""
        words = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.vocabulary[i])
        return " ".join(words)
