"""Bootstrap intervals and paired comparisons, against resampling that scores every resample anew."""

import random

import numpy as np
import pytest
from helpers.scoring import images, metrics

from autocaption.metrics.bootstrap import Resampled, compare, intervals

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


def test_means_are_compared_by_scoring_every_resample_of_every_system(good, bad):
    """Two groups of two: a resample's images are repeated as they were drawn, and scored as a split."""
    captions = {"good": GOOD, "bad": BAD, "late": [text.split()[-1] for text in GOOD]}
    scorer, one, other = metrics("original"), ["good", "bad"], ["bad", "late"]
    late = scorer.score(images(captions["late"], REFERENCES))
    systems = {"good": good, "bad": bad, "late": late}
    mean_one, mean_other = (
        Resampled.mean([Resampled.of(systems[name], resamples=20, seed=3) for name in group])
        for group in (one, other)
    )
    found = mean_one.minus(mean_other)
    counts = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=20)
    draws = [np.arange(60), *(np.repeat(np.arange(60), row) for row in counts)]
    scores = {
        name: [
            scorer.score(images([said[i] for i in drawn], [REFERENCES[i] for i in drawn])).scores()
            for drawn in draws
        ]
        for name, said in captions.items()
    }
    for metric in ("bleu4", "rouge_l"):
        whole, *resampled = (
            np.mean([scores[name][r][metric] for name in one])
            - np.mean([scores[name][r][metric] for name in other])
            for r in range(len(draws))
        )
        assert found[metric].difference == pytest.approx(whole)
        assert found[metric][1:3] == pytest.approx(np.quantile(resampled, [0.025, 0.975]))
        assert found[metric].p == pytest.approx(2 * (1 + sum(np.array(resampled) <= 0)) / 21)


def test_a_mean_has_the_metrics_that_all_have(good):
    shorter = metrics("bleu").score(images(BAD, REFERENCES))
    mean = Resampled.mean([Resampled.of(good), Resampled.of(shorter)])
    assert set(mean.scores) == set(mean.drawn) == {"bleu1", "bleu2", "bleu3", "bleu4"}
    with pytest.raises(ValueError, match="same images"):
        Resampled.mean([mean, Resampled.of(metrics("bleu").score(images(GOOD[:5], REFERENCES[:5])))])


def test_resamples_with_nothing_to_score_do_not_count():
    """self_cider is of images with several captions, of which there is one here."""
    references = [["a dog runs", "the dog is running"], ["two men sit", "men on a bench"]]
    alike, varied = (
        metrics().score(images([[first, second], "two men"], references))
        for first, second in [("a dog runs", "a dog runs"), ("a dog runs", "two men sit")]
    )
    drawn = np.random.default_rng(0).multinomial(2, [0.5, 0.5], size=1000)[:, 0] > 0
    found = compare(varied, alike)["self_cider"]
    assert found.difference > 0
    assert found.p == pytest.approx(2 / (drawn.sum() + 1))
