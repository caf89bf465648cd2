"""Metrics beyond overlap, and the original's BLEU, against nltk and closed forms."""

import math

import numpy as np
import pytest
from helpers.scoring import images, metrics, scores
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

REFERENCES = [["a dog runs on the grass"], ["two men sit on a bench"], ["a girl"], ["a boat"]]


def test_what_the_captions_are_like():
    found = scores(["a dog", "a dog", "A man sits!", "two men sit"], REFERENCES)
    assert found["mean_length"] == 10 / 4
    assert found["distinct1"] == 7 / 10  # a dog man sits two men sit
    assert found["distinct2"] == 5 / 6
    assert found["vocabulary"] == 7
    assert found["most_frequent"] == 2 / 4
    assert found["novel"] == 3 / 4  # "two men sit" is a training caption


def test_self_cider_is_0_of_one_caption_repeated_and_1_of_captions_that_share_nothing():
    several = [
        ["a dog runs here", "a dog runs here"],
        ["two men sit there", "one girl in red"],
        ["a girl"],
        ["b"],
    ]
    scored = metrics().score(images(several, REFERENCES))
    assert scored.per_image()["self_cider"][:2] == pytest.approx([0, 1], abs=1e-6)
    assert np.isnan(scored.per_image()["self_cider"][2:]).all()
    assert scored.scores()["self_cider"] == pytest.approx(0.5)


def test_self_cider_of_captions_that_are_one_is_never_minus_0():
    found = metrics().score(images([["a dog"] * 2, ["two men"] * 3, ["x"], ["y"]], REFERENCES)).per_image()
    assert "-" not in str(found["self_cider"])


def test_self_cider_of_two_captions_follows_from_their_similarity():
    pair = ["dog runs", "dog sits"]  # words alone, each as rare as the others: cosines 1/2, 0, 0, 0
    references = [["dog"], ["runs"], ["sits"], ["else"]]
    found = metrics().score(images([pair, ["x"], ["x"], ["x"]], references)).per_image()["self_cider"][0]
    # Of each, one half of the orders has n-grams: the matrix is [[1/2, 1/8], [1/8, 1/2]].
    values = [math.sqrt(1 / 2 + 1 / 8), math.sqrt(1 / 2 - 1 / 8)]
    assert found == pytest.approx(-math.log2(values[0] / sum(values)))


def test_without_several_captions_there_is_no_self_cider():
    assert "self_cider" not in scores(["a"] * 4, REFERENCES)


CAPTIONS = ["A dog runs on the grass .", "two men", "x y z", "", "A dog-house 4 two runs"]
WRITTEN = [
    ["A brown dog runs on the green grass .", "dog"],  # the second is dropped: one word
    ["Two men sit on a bench ."],
    ["a girl sits"],
    ["nobody is here"],
    ["doghouse for two", "a man runs away"],
]


def rule(caption):
    kept = "".join(c for c in caption.lower() if c.isalnum() or c == " ")
    return [word for word in kept.split() if len(word) > 1 and word.isalpha()]


def test_the_original_s_bleu_is_nltk_s_mean():
    expected = []
    for caption, texts in zip(CAPTIONS, WRITTEN, strict=True):
        kept = [words for words in map(rule, texts) if len(words) >= 2]
        expected.append(sentence_bleu(kept, rule(caption), smoothing_function=SmoothingFunction().method1))
    scored = metrics("original").score(images(CAPTIONS, WRITTEN))
    assert scored.per_image()["sentence_bleu4"] == pytest.approx(expected)
    assert scored.scores()["sentence_bleu4"] == pytest.approx(np.mean(expected))


def test_the_original_s_bleu_leaves_out_images_without_a_reference_of_two_words(caplog):
    caplog.set_level("INFO")
    with_one = metrics("original").score(images([*CAPTIONS, "a dog runs"], [*WRITTEN, ["a dog", "I"]]))
    without = metrics("original").score(images(CAPTIONS, WRITTEN))
    assert with_one.scores()["sentence_bleu4"] == without.scores()["sentence_bleu4"]
    assert np.isnan(with_one.per_image()["sentence_bleu4"][-1])
    assert "leaves out 1 image" in caplog.text
