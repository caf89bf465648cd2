"""How a caption, as written, becomes words. A rule is any `str -> list[str]`."""

import string

_PUNCTUATION = str.maketrans("", "", string.punctuation + "’‘“”–—…")  # noqa: RUF001


def words(caption: str) -> list[str]:
    """Lower case, split at white space, punctuation deleted ("T-shirt's" is "tshirts").

    The rule behind the tokens of Karpathy & Fei-Fei (2015), which most published figures use.
    """
    return caption.lower().translate(_PUNCTUATION).split()


def original(caption: str) -> list[str]:
    """The rule of the project that autocaption grew from: `words`, less one-letter words ("a") and
    words with digits. Only for comparison with its figures: it makes BLEU incomparable to others.
    """
    return [word for word in words(caption) if len(word) > 1 and word.isalpha()]
