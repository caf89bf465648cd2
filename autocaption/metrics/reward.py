"""What a sampled caption is worth, for self-critical training.

Legend: B images, K captions an image, R = B x K captions, T time.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autocaption.checks import number
from autocaption.data.sources import ImageId
from autocaption.data.tokenizer import EOS
from autocaption.errors import UserError
from autocaption.metrics.bleu import counts
from autocaption.metrics.cider import CiderD
from autocaption.metrics.corpus import EvaluationTokenizer
from autocaption.metrics.ngrams import ORDERS, DocumentFrequencies, Words
from autocaption.metrics.sentence_bleu import sentence_bleu4

END = "<eos>"  # no word, whatever the tokenizer


class Prepared(NamedTuple):
    """The training captions, ready to compare with.

    Attributes:
        place_of: the place of each image.
        references: the words of each image's captions.
        cider: scores against them.
    """

    place_of: dict[ImageId, int]
    references: Sequence[Sequence[Words]]
    cider: CiderD


class CaptionReward:
    """CIDEr-D with the document frequencies of the training split, and smoothed BLEU-4, by weight.

    With weights 1 and 0 it is the metric `cider_train_df` of one image. A caption takes about 20
    microseconds, and 40 with BLEU-4; the training captions are read and counted at the first one.

    Args:
        cider: the weight of CIDEr-D, which lies between 0 and 10.
        bleu4: the weight of sentence BLEU-4 (sentence_bleu.py), which lies between 0 and 1.
        end_as_word: whether the end of a caption counts as a word, so that one that breaks off matches less.
        tokenizer: the metrics' tokenizer.
        training_captions: gives each training image's id and captions; None for a model that isn't trained.
        decode: token ids to a caption.

    Raises:
        UserError: a weight is negative, or both are 0.
    """

    def __init__(
        self,
        cider: float,
        bleu4: float,
        end_as_word: bool,
        tokenizer: EvaluationTokenizer,
        training_captions: Callable[[], Iterable[tuple[ImageId, Sequence[str]]]] | None,
        decode: Callable[[list[int]], str],
    ) -> None:
        self.cider = number("model.loss.reward.cider", cider, at_least=0)
        self.bleu4 = number("model.loss.reward.bleu4", bleu4, at_least=0)
        if cider + bleu4 == 0:
            raise UserError("model.loss.reward: cider and bleu4 are both 0, so that nothing is rewarded")
        self.end = [END] if end_as_word else []
        self.tokenizer, self.training_captions, self.decode = tokenizer, training_captions, decode
        self._words_of: dict[str, list[str]] = {}

    def __call__(self, ids: Sequence[ImageId], tokens_BKT: NDArray) -> NDArray:
        """rewards_BK.

        Args:
            ids: the images' ids, of the training split.
            tokens_BKT: K captions of each image; one without <eos> reached the maximum length.
        """
        B, K, _ = tokens_BKT.shape
        place_of, references, cider = self._prepared
        image_R = np.repeat([place_of[id] for id in ids], K)
        captions = self._split(list(map(self.decode, tokens_BKT.reshape(B * K, -1).tolist())))
        if self.end:
            ended_R = (tokens_BKT == EOS).any(2).ravel()
            pairs = zip(captions, ended_R, strict=True)
            captions = [[*words, *self.end] if ended else words for words, ended in pairs]
        reward_R = np.zeros(B * K)
        if self.cider:
            reward_R += self.cider * cider.score(captions, image_R)
        if self.bleu4:
            own = [references[image] for image in image_R]
            reward_R += self.bleu4 * sentence_bleu4(counts(captions, own, ORDERS))
        return reward_R.reshape(B, K)

    @cached_property
    def _prepared(self) -> Prepared:
        if self.training_captions is None:
            raise UserError("model.loss.reward needs the training captions, which this model was not given")
        images = list(self.training_captions())
        words = iter(self.tokenizer([text for _, texts in images for text in texts]))
        references = [[[*next(words), *self.end] for _ in texts] for _, texts in images]
        place_of = {id: place for place, (id, _) in enumerate(images)}
        return Prepared(place_of, references, CiderD(references, DocumentFrequencies.of(references)))

    def _split(self, captions: Sequence[str]) -> list[list[str]]:
        """The words of each caption; the tokenizer, which may be slow to start, sees each new word once."""
        texts = [caption.split() for caption in captions]
        if new := sorted(set(chain.from_iterable(texts)) - self._words_of.keys()):
            self._words_of.update(zip(new, self.tokenizer(new), strict=True))
        return [[part for word in text for part in self._words_of[word]] for text in texts]
