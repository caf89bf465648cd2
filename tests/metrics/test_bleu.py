"""Corpus BLEU against sacrebleu, and the inputs that it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from autocaption.metrics.corpus_bleu import CorpusBleu

WORDS = st.sampled_from(["a", "b", "c", "d"])  # few words, so that long n-grams match by chance


def texts(shortest, longest):
    return st.lists(WORDS, min_size=shortest, max_size=longest).map(" ".join)


ANY, SOME = texts(0, 12), texts(1, 12)


@st.composite
def corpora(draw, hypothesis=ANY, reference=SOME):
    """Captions, and for each the same number of references, as sacrebleu needs it."""
    images, count = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    preds = draw(st.lists(hypothesis, min_size=images, max_size=images))
    references = st.lists(reference, min_size=count, max_size=count)
    return preds, draw(st.lists(references, min_size=images, max_size=images))


def bleu(*updates, metric=None, n_gram=4):
    metric = metric or CorpusBleu(n_gram=n_gram)
    for preds, target in updates:
        metric.update(preds, target)
    return {name: value.item() for name, value in metric.compute().items()}


def oracle(preds, target, n_gram=4):
    scores = {}
    for n in range(1, n_gram + 1):
        metric = BLEU(max_ngram_order=n, tokenize="none", force=True, smooth_method="none")
        scores[f"bleu{n}"] = metric.corpus_score(preds, list(zip(*target, strict=True))).score / 100
    return scores


def assert_oracle(preds, target):
    assert bleu((preds, target)) == pytest.approx(oracle(preds, target), abs=1e-6)


@given(corpora())
def test_random_corpora_equal_sacrebleu(corpus):
    assert_oracle(*corpus)


@given(corpora(hypothesis=texts(1, 4), reference=texts(5, 10)))
def test_short_captions_equal_sacrebleu(corpus):
    assert_oracle(*corpus)


@given(corpora(hypothesis=texts(10, 14)))
def test_long_captions_equal_sacrebleu(corpus):
    assert_oracle(*corpus)


def test_example_of_the_paper():
    preds = ["the the the the the the the"]  # Papineni et al. (2002): 2/7
    target = [["the cat is on the mat", "there is a cat on the mat"]]
    assert bleu((preds, target)) == pytest.approx({"bleu1": 2 / 7, "bleu2": 0, "bleu3": 0, "bleu4": 0})


def test_perfect_captions_score_one():
    target = [["a b c d", "c d"], ["d c b a a", "b b"]]
    scores = bleu((["a b c d", "d c b a a"], target))
    assert scores == {"bleu1": 1, "bleu2": 1, "bleu3": 1, "bleu4": 1}


@pytest.mark.parametrize("order", [1, -1])
def test_shorter_of_two_equally_close_references_counts(order):
    preds, target = ["a b c d"], [["a b c d a b", "c d"][::order]]
    assert bleu((preds, target))["bleu1"] == 1.0  # the longer would cost a brevity penalty of exp(-1/2)
    assert_oracle(preds, target)


def test_closest_reference_counts_not_the_shortest():
    preds, target = ["a b c d"], [["a", "a b c d a"]]
    assert bleu((preds, target))["bleu1"] == pytest.approx(2.718281828 ** (1 - 5 / 4))
    assert_oracle(preds, target)


@pytest.mark.parametrize("preds", [["", ""], ["", "a b c d"], ["a", "b"]])
def test_empty_and_tiny_captions_equal_sacrebleu(preds):
    assert_oracle(preds, [["a b c d", "a"], ["a b c d", "b"]])


def test_images_may_have_different_numbers_of_references():
    preds, target = ["a b c d", "b c d a"], [["a b d c", "a b c"], ["b c d"]]
    padded = [target[0], target[1] * 2]  # a repeated reference changes nothing
    assert bleu((preds, target)) == pytest.approx(oracle(preds, padded), abs=1e-6)


@pytest.mark.parametrize("n_gram", [1, 2, 6])
def test_other_orders_equal_sacrebleu(n_gram):
    preds, target = ["a b c d a b c d", "b a"], [["a b c d a b c a"], ["b a c"]]
    assert bleu((preds, target), n_gram=n_gram) == pytest.approx(oracle(preds, target, n_gram), abs=1e-6)


@given(corpora(), corpora())
def test_two_updates_equal_one(one, other):
    together = (one[0] + other[0], one[1] + other[1])
    assert bleu(one, other) == bleu(together)


@given(corpora(), corpora())
def test_two_devices_equal_one(one, other):
    theirs = CorpusBleu()
    theirs.update(*other)

    def gather(tensor, group=None):
        name = next(name for name, value in mine.metric_state.items() if value is tensor)
        return [tensor, theirs.metric_state[name]]

    mine = CorpusBleu(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    assert bleu(one, metric=mine) == bleu((one[0] + other[0], one[1] + other[1]))
    assert bleu(metric=theirs) == bleu(other)


def test_reset_forgets_all_counts():
    metric = CorpusBleu()
    corpus = (["a b c d e"], [["a b c d", "b c d e"]])
    expected = bleu(corpus, metric=metric)
    metric.update(["z"], [["a"]])
    metric.reset()
    assert bleu(corpus, metric=metric) == expected


def test_update_does_not_change_its_arguments():
    target = [["a b c", "a"]]
    bleu((["a"], target))
    assert target == [["a b c", "a"]]


@pytest.mark.parametrize(
    ("preds", "target"),
    [
        ("a b", [["a b"], ["a"], ["b"]]),
        (["a b"], ["a b"]),
        (["a", "b"], ["a", "b"]),
        (["a b"], [["a b"], ["a"]]),
        (["a", "b"], [["a"]]),
        (["a", "b"], [["a"], []]),
    ],
)
def test_invalid_inputs_are_refused_and_not_counted(preds, target):
    metric = CorpusBleu()
    with pytest.raises(ValueError, match="references"):
        metric.update(preds, target)
    good = (["a b c d"], [["a b c d"]])
    assert bleu(good, metric=metric)["bleu4"] == 1.0  # nothing that was refused is counted
