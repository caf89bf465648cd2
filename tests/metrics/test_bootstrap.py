"""Bootstrap intervals and paired comparisons, against resampling that scores every resample anew."""

import random

import numpy as np
import pytest
from helpers.scoring import images, metrics

from autocaption.metrics.bootstrap import compare, intervals

random_ = random.Random(2)
WORDS = ["a", "dog", "man", "runs", "sits", "on", "grass"]


def sentence():
    return " ".join(random_.choices(WORDS, k=random_.randint(4, 8)))


REFERENCES = [[sentence() for _ in range(3)] for _ in range(60)]
GOOD = [" ".join(texts[0].split()[:-1]) for texts in REFERENCES]
BAD = [sentence() for _ in REFERENCES]


@pytest.fixture(name="good", scope="module")
def good_system():
    return metrics("original").score(images(GOOD, REFERENCES))


@pytest.fixture(name="bad", scope="module")
def bad_system():
    return metrics("original").score(images(BAD, REFERENCES))


def test_a_resample_scores_what_its_images_score_together(good):
    drawn = np.array([0, 0, 3, 7, 7, 7, 59])
    together = metrics("original").score(images([GOOD[i] for i in drawn], [REFERENCES[i] for i in drawn]))
    counts = np.bincount(drawn, minlength=60)[None].astype(float)
    found = good.resampled(counts)
    for name in ("bleu1", "bleu4", "rouge_l", "cider_train_df", "sentence_bleu4", "mean_length", "novel"):
        assert found[name][0] == pytest.approx(together.scores()[name]), name


def test_an_interval_is_that_of_resampled_means(good):
    found = intervals(good, resamples=2000)["rouge_l"]
    each = good.per_image()["rouge_l"]
    draws = np.random.default_rng(9).integers(60, size=(4000, 60))
    low, high = np.quantile(each[draws].mean(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    assert found.score == pytest.approx(each.mean())


def test_every_metric_of_images_has_an_interval_around_its_score(good):
    found = intervals(good)
    assert set(found) == set(good.scores()) - set(good.split_scores)
    assert all(one.low <= one.score <= one.high for one in found.values())
    assert found["bleu4"].low < found["bleu4"].high
    assert found == intervals(good)  # the same draws
    assert found != intervals(good, seed=1)
    narrower = intervals(good, level=0.5)["bleu4"]
    assert found["bleu4"].low < narrower.low < narrower.high < found["bleu4"].high


def test_resamples_in_parts_are_the_same_number(good, monkeypatch):
    monkeypatch.setattr("autocaption.metrics.bootstrap.AT_A_TIME", 60 * 7)
    assert intervals(good, resamples=50)["bleu4"].low < intervals(good, resamples=50)["bleu4"].high


def test_a_better_system_is_told_from_a_worse_one(good, bad):
    found = compare(good, bad)["bleu4"]
    assert found.difference == good.scores()["bleu4"] - bad.scores()["bleu4"] > 0
    assert 0 < found.low < found.difference < found.high
    assert found.p == pytest.approx(2 / 1001)  # not one of 1,000 resamples says otherwise
    back = compare(bad, good)["bleu4"]
    assert (back.difference, back.p) == (-found.difference, found.p)


def test_a_system_is_as_good_as_itself(good):
    assert all(one == (0, 0, 0, 1) for one in compare(good, good).values())


def test_pairs_are_told_apart_where_intervals_overlap(bad):
    some_shorter = [caption if i % 8 else caption[2:] for i, caption in enumerate(BAD)]
    other = metrics("original").score(images(some_shorter, REFERENCES))
    assert intervals(other)["mean_length"].high > intervals(bad)["mean_length"].low
    assert compare(bad, other)["mean_length"].p < 0.05


def test_systems_with_other_images_cannot_be_compared(good):
    other = metrics("original").score(images(GOOD[:5], REFERENCES[:5]))
    with pytest.raises(ValueError, match="same images"):
        compare(good, other)
