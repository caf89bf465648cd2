"""Captions to token ids and back, and the rules that split a caption into words."""

import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from autocaption.checks import whole
from autocaption.errors import UserError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)

_PUNCTUATION = str.maketrans("", "", string.punctuation + "’‘“”–—…")  # noqa: RUF001


def words(caption: str) -> list[str]:
    """Lower case, split at white space, punctuation deleted ("T-shirt's" is "tshirts").

    The rule behind the tokens of Karpathy & Fei-Fei (2015), which most published results use.
    """
    return caption.lower().translate(_PUNCTUATION).split()


def original(caption: str) -> list[str]:
    """`words` without one-letter words ("a") and words with digits.

    The rule of the project that autocaption grew from, to compare with its results only: BLEU under this
    rule cannot be compared with any other.
    """
    return [word for word in words(caption) if len(word) > 1 and word.isalpha()]


class Tokenizer:
    """Captions to token ids and back.

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
        self._ids = {word: i for i, word in enumerate(self.vocabulary)}

    def fit(self, captions: Iterable[str]) -> "Tokenizer":
        """A tokenizer with the vocabulary of these captions.

        Raises:
            UserError: no word occurs `min_count` times.
        """
        counts: Counter[str] = Counter()
        for caption in captions:
            counts.update(self.rule(caption))
        kept = sorted((-count, word) for word, count in counts.items() if count >= self.min_count)
        if not kept:
            raise UserError(
                f"no word of the training captions occurs {self.min_count} times; lower tokenizer.min_count"
            )
        vocabulary = [*SPECIAL, *(word for _, word in kept)]
        return Tokenizer(self.rule, self.min_count, self.max_length, vocabulary)

    def encode(self, caption: str) -> list[int]:
        """<bos>, the ids of at most `max_length` words, <eos>."""
        ids = self._ids
        return [BOS, *(ids.get(word, UNK) for word in self.rule(caption)[: self.max_length]), EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The words before the first <eos>, without <pad> and <bos>."""
        words = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.vocabulary[i])
        return " ".join(words)
