"""CIDEr-D with document frequencies of the training split, and as a reward."""

import math

import numpy as np
import pytest
from helpers.scoring import images, metrics
from hypothesis import given
from hypothesis import strategies as st

from autocaption.metrics.cider import CiderD
from autocaption.metrics.ngrams import DocumentFrequencies, ngrams

TEXT = st.lists(st.sampled_from("abcd"), max_size=7)
CAPTIONED = st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=5)


def grams(words):
    return [(tuple(words[i : i + n])) for n in range(1, 5) for i in range(len(words) - n + 1)]


def closed_form(caption, references, documents):
    """CIDEr-D of one caption, from dictionaries."""
    seen = [{gram for text in texts for gram in grams(text)} for texts in documents]

    def vector(words, n):
        found = [gram for gram in grams(words) if len(gram) == n]
        idf = {g: math.log(len(documents)) - math.log(max(1, sum(g in one for one in seen))) for g in found}
        return {gram: found.count(gram) * idf[gram] for gram in found}

    total = 0.0
    for text in references:
        gap = max(len(caption) - 1, 0) - max(len(text) - 1, 0)
        for n in range(1, 5):
            ours, theirs = vector(caption, n), vector(text, n)
            norms = [math.sqrt(sum(w * w for w in one.values())) for one in (ours, theirs)]
            if all(norms):
                dot = sum(min(w, theirs.get(g, 0)) * theirs.get(g, 0) for g, w in ours.items())
                total += dot / math.prod(norms) * math.exp(-gap * gap / 72)
    return 10 * total / 4 / len(references)


@given(CAPTIONED, CAPTIONED)
def test_any_document_frequencies_give_the_closed_form(captioned, training):
    documents = [texts for _, texts in training]
    captions, references = zip(*captioned, strict=True)
    scorer = CiderD(references, DocumentFrequencies.of(documents))
    expected = [closed_form(*pair, documents) for pair in captioned]
    np.testing.assert_allclose(scorer.score(captions), expected, atol=1e-9)


@given(CAPTIONED)
def test_captions_may_be_of_any_images(captioned):
    captions, references = zip(*captioned, strict=True)
    scorer = CiderD(references, DocumentFrequencies.of(references))
    drawn = np.array([0, len(captions) - 1, 0])
    together = scorer.score([captions[0]] * 3, drawn)
    for score, image in zip(together, drawn, strict=True):
        assert score == pytest.approx(closed_form(captions[0], references[image], references), abs=1e-9)


def test_training_frequencies_do_not_depend_on_what_is_evaluated():
    one, other = images(["a dog runs"], [["a dog is here"]]), images(["two men"], [["two men sit"]])
    alone, together = metrics().score(one), metrics().score(one + other)
    assert alone.per_image()["cider_train_df"][0] == together.per_image()["cider_train_df"][0] > 0
    assert (
        alone.per_image()["cider"][0] == 0 < together.per_image()["cider"][0]
    )  # of one image, no word is rare


def test_a_document_counts_an_n_gram_once(monkeypatch):
    documents = [[["a", "b"], ["a", "b"]], [["a"]], [["b", "a"]]] * 7
    monkeypatch.setattr("autocaption.metrics.ngrams.CHUNK", 4)  # documents counted at a time
    frequencies = DocumentFrequencies.of(documents)
    a, b, ab = ngrams([["a", "b"]]).gram_G
    assert frequencies(np.array([a, b, ab, 5], np.uint64)).tolist() == [21, 14, 7, 0]
    assert frequencies.documents == 21
