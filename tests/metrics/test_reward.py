"""The reward of sampled captions, against the metrics that it stands for."""

import numpy as np
import pytest
from helpers.scoring import images, metrics

from autocaption.data.tokenizer import BOS, EOS, PAD, WordTokenizer, words
from autocaption.errors import UserError
from autocaption.metrics.reward import CaptionReward
from autocaption.metrics.tokenizers import WordsTokenizer

TRAINING = {
    "one": ["A brown dog runs over grass.", "the dog is running fast over grass", "dogs run"],
    2: ["Two men sit on the bench", "two men are sitting"],
    "three": ["the dog looks over the bench at two men", "a dog"],
}
CAPTIONS = [
    [2, "two men sit on the bench", "two men are running"],
    ["one", "the dog is running over grass", "the"],
    ["three", "", "the dog the dog the dog"],
]
TOKENIZER = WordTokenizer(words, 1, 20).fit(text for texts in TRAINING.values() for text in texts)


def tokens_of(caption, length=9):
    ids = TOKENIZER.encode(caption)[1:]
    return (ids + [PAD] * length)[:length]


IDS = [id for id, *_ in CAPTIONS]
TOKENS_BKT = np.array([[tokens_of(text) for text in texts] for _, *texts in CAPTIONS])


def reward_of(cider=1.0, bleu4=0.0, end_as_word=False, tokenizer=None, training=TRAINING.items):
    return CaptionReward(
        cider, bleu4, end_as_word, tokenizer or WordsTokenizer(words), training, TOKENIZER.decode
    )


def scored(name, rule="words"):
    """The metric of each caption, as an evaluation of it alone gives it."""
    evaluation = metrics("original" if name == "sentence_bleu4" else "coco")
    evaluation.training_captions.read = TRAINING.values
    return np.array(
        [
            [evaluation.score(images([text], [TRAINING[id]])).per_image()[name][0] for text in texts]
            for id, *texts in CAPTIONS
        ]
    )


def test_cider_is_the_metric_with_the_training_captions_frequencies():
    found = reward_of()(IDS, TOKENS_BKT)
    np.testing.assert_allclose(found, scored("cider_train_df"), atol=1e-12)
    assert found.max() > 1
    assert found[2, 0] == 0


def test_weights_add_sentence_bleu():
    both = reward_of(cider=2.0, bleu4=0.5)(IDS, TOKENS_BKT) - 2 * reward_of()(IDS, TOKENS_BKT)
    alone = reward_of(cider=0.0, bleu4=1.0)(IDS, TOKENS_BKT)
    np.testing.assert_allclose(both, 0.5 * alone, atol=1e-12)
    assert alone[0, 0] == pytest.approx(1.0)
    assert 0 < alone[1, 0] < 1


def test_every_word_is_split_once_whatever_the_tokenizer():
    class Halving:
        """Splits each word in two, as the Penn Treebank rules split some, and notes what it is given."""

        name, given = "halving", []

        def __call__(self, captions):
            self.given.append(list(captions))
            split = [text.lower().split() for text in captions]
            return [[half for word in text for half in (word[:2], word[2:]) if half] for text in split]

    halving = Halving()
    reward = reward_of(tokenizer=halving)
    first = reward(IDS, TOKENS_BKT)
    assert np.array_equal(reward(IDS, TOKENS_BKT), first)
    training, vocabulary = halving.given  # one call each
    assert len(training) == 7
    assert sorted(set(vocabulary)) == vocabulary
    assert first[0, 0] > 1


def test_a_caption_that_breaks_off_matches_less_where_its_end_counts():
    whole = np.array([[tokens_of("two men sit on the bench"), tokens_of("two men sit on the bench")]])
    whole[0, 1][whole[0, 1] == EOS] = PAD  # as one that reached the maximum length
    assert (whole[0, 0] != whole[0, 1]).sum() == 1
    same, less = (reward_of(end_as_word=counts)([2], whole)[0] for counts in (False, True))
    assert same[0] == same[1]
    assert less[0] > less[1]


def test_mistakes_are_one_line():
    with pytest.raises(UserError, match="both 0"):
        reward_of(cider=0.0)
    with pytest.raises(UserError, match="bleu4=-1"):
        reward_of(bleu4=-1)
    with pytest.raises(UserError, match="training captions"):
        reward_of(training=None)(IDS, TOKENS_BKT)


def test_special_tokens_are_no_words():
    tokens_BKT = np.array([[[BOS, *tokens_of("two men", 4)]]])
    assert reward_of()([2], tokens_BKT) == reward_of()([2], tokens_BKT[..., 1:])
