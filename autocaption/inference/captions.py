"""Generated captions, as people get them.

Legend: B images, K captions an image, T time.
"""

import math
from dataclasses import dataclass, field

from autocaption.data.tokenizer import Tokenizer, until_end
from autocaption.models.protocols import Captions


@dataclass(frozen=True)
class Caption:
    """A generated caption.

    Attributes:
        text: its words, separated by single spaces.
        score: what the search ranks by: the sum of the tokens' log-probabilities, divided by
            length ** length_penalty where the search has one; for search=consensus the mean similarity.
        log_probability: the sum of the natural logarithms of its tokens' probabilities, its end included,
            each given the picture and the tokens before.
        tokens: the ids of its tokens.
    """

    text: str
    score: float
    log_probability: float
    tokens: tuple[int, ...] = field(repr=False)

    @property
    def probability(self) -> float:
        """How likely the model says exactly this caption of the picture, of all captions that there are."""
        return math.exp(self.log_probability)

    @property
    def words(self) -> list[str]:
        """The words of the text."""
        return self.text.split()


def captions_of(found: Captions, tokenizer: Tokenizer, k: int, length_penalty: float) -> list[list[Caption]]:
    """The k best captions of each image, or fewer where a search found fewer.

    Args:
        found: what a search found.
        tokenizer: makes text of it.
        k: the most captions of an image.
        length_penalty: of the search; 0 where its scores are sums.
    """
    parts = (found.tokens_BKT, found.scores_BK, found.log_probabilities(length_penalty), found.exist_BK)
    images = zip(*(part[:, :k].tolist() for part in parts), strict=True)
    return [
        [
            Caption(tokenizer.decode(tokens), score, total, until_end(tokens))
            for tokens, score, total, exists in zip(*image, strict=True)
            if exists
        ]
        for image in images
    ]
