"""The metrics of a split: what they take, and that devices, batches and order change nothing."""

import random

import pytest
import torch
from helpers.configs import composed
from helpers.ranks import on_ranks
from helpers.scoring import images, metrics, scores

from autocaption import build
from autocaption.errors import UserError
from autocaption.metrics.bleu import Bleu
from autocaption.metrics.caption_metrics import CaptionMetrics

random_ = random.Random(0)
NOUNS = ["dog", "man", "girl", "boat", "ball", "house"]
VERBS = ["runs", "sits", "jumps", "stands"]
PLACES = ["on the grass", "in the water", "near a tree", "on a bench", ""]


def sentence():
    return f"a {random_.choice(NOUNS)} {random_.choice(VERBS)} {random_.choice(PLACES)}".strip()


IMAGES = images(
    [[sentence(), sentence(), sentence()] for _ in range(23)],
    [[sentence() for _ in range(1 + i % 5)] for i in range(23)],
)


def updated(metric, some):
    if some:
        metric.update([i.captions for i in some], [i.references for i in some], [i.id for i in some])
    return metric


def values(metric):
    return {name: score.item() for name, score in metric.compute().items()}


EXPECTED = metrics().score(IMAGES).scores()


def test_every_metric_of_coco_is_there():
    assert set(EXPECTED) == {
        *("bleu1", "bleu2", "bleu3", "bleu4", "cider", "cider_train_df", "rouge_l", "mean_length", "novel"),
        *("self_cider", "distinct1", "distinct2", "vocabulary", "most_frequent"),
    }


def test_batches_and_order_change_no_digit():
    shuffled = random.Random(1).sample(IMAGES, len(IMAGES))
    metric = metrics()
    for start in range(0, len(shuffled), 5):
        updated(metric, shuffled[start : start + 5])
    assert values(metric) == EXPECTED


def scoring(number, shard):
    metric = updated(metrics(), shard)
    first = values(metric)
    metric.reset()
    return first, values(updated(metric, shard))  # as in the next epoch


def refused(number, shard):
    with pytest.raises(UserError, match="needs the training captions"):
        updated(build.metrics(composed(), None), shard).compute()
    return number


@pytest.mark.parametrize(
    "shards",
    [[IMAGES[0::2], IMAGES[1::2]], [IMAGES[:3], IMAGES[3:]], [[], IMAGES], [IMAGES[5:], [], IMAGES[:5]]],
    ids=["even", "uneven", "an empty shard", "three"],
)
def test_devices_change_no_digit(shards, tmp_path):
    assert on_ranks(scoring, shards, tmp_path / "meeting") == [(EXPECTED, EXPECTED)] * len(shards)


def test_an_error_of_the_first_rank_reaches_the_others(tmp_path):
    assert on_ranks(refused, [IMAGES[:2], IMAGES[2:4]], tmp_path / "meeting") == [0, 1]


def test_reset_forgets_and_a_clone_is_apart():
    metric = updated(metrics(), IMAGES[:2])
    other = metric.clone()
    metric.reset()
    assert values(updated(metric, IMAGES)) == EXPECTED
    assert values(other) != EXPECTED


def test_the_state_is_text_that_every_device_can_hold():
    (line, *more) = updated(metrics(), IMAGES).metric_state["lines"]
    assert line.dtype == torch.uint8
    assert not more  # one tensor an update


def test_nothing_scored_gives_nothing():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metrics().compute() == {}


class Own:
    def __init__(self, *names):
        self.names = names


@pytest.mark.parametrize(("own", "name"), [(Own("cider", "bleu4"), "bleu4"), (Own("loss"), "loss")])
def test_a_metric_that_would_stand_under_the_key_of_another_is_refused(own, name):
    with pytest.raises(UserError, match=f"two metrics are called {name}"):
        CaptionMetrics(None, {"bleu": Bleu()}, {"own": own})
    CaptionMetrics(None, {"bleu": Bleu()}, {"own": Own("mine"), "untold": object()})


def test_an_image_without_references_is_named():
    with pytest.raises(UserError, match=r"image 17\.jpg has no reference captions"):
        metrics().update(["a", "b"], [["a"], []], ["16.jpg", "17.jpg"])


@pytest.mark.parametrize(
    ("captions", "references", "ids"),
    [
        ("a b", [["a"], ["b"], ["c"]], None),
        (["a"], ["a"], None),
        (["a"], [["a"], ["b"]], None),
        (["a"], [["a"]], ["1", "2"]),
    ],
)
def test_invalid_inputs_are_refused(captions, references, ids):
    with pytest.raises(ValueError, match="references"):
        metrics().update(captions, references, ids)


REFERENCES = [["a dog runs on the grass", "a dog"], ["two men sit on a bench"], ["a girl"]]


def test_empty_captions_score_zero():
    found = scores(["", "", ""], REFERENCES)
    for name in ("bleu1", "bleu4", "cider", "rouge_l", "mean_length", "vocabulary", "distinct1"):
        assert found[name] == 0
    assert found["most_frequent"] == 1


def test_the_references_themselves_score_best():
    captions = ["a dog runs on the grass", "two men sit on a bench near the sea", "a girl in a red dress"]
    found = scores(captions, [[caption] for caption in captions])
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
        assert found[name] == pytest.approx(1)
    assert found["cider"] == pytest.approx(10)


def test_punctuation_and_case_do_not_count():
    written = [["A dog runs, on the grass!", "A DOG ."], ["Two men -- sit on a bench"], ["'a' girl"]]
    assert scores(["a dog runs", "two men", "girl"], REFERENCES) == scores(
        ["A dog runs .", "Two men!", "girl?"], written
    )


def test_unicode_and_line_breaks_survive():
    odd = ["straße \u2028 \n 狗", "emoji 🐶 \x85", "lone \ud800"]
    metric = metrics()
    metric.update(odd, [[text] for text in odd])
    assert [image.captions[0] for image in metric.images()] == odd
    assert metric.compute()["bleu1"] == 1


def test_one_word_captions_have_unigrams_only():
    found = scores(["dog", "men", "girl"], REFERENCES)
    assert found["bleu1"] > 0
    assert found["bleu2"] == 0
    assert found["distinct2"] == 0
