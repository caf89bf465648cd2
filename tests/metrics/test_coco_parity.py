"""Scores equal coco-caption's: stored ones of a few captions, and live ones on real text."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.scoring import images, metrics

from autocaption.data.sources.flickr8k import flickr8k
from autocaption.metrics import java
from autocaption.metrics.corpus import Corpus, TrainingCaptions
from autocaption.metrics.corpus_bleu import CorpusBleu
from autocaption.metrics.meteor import meteor
from autocaption.metrics.tokenizers import PtbTokenizer, WordsTokenizer

COCO = json.loads(Path(__file__).with_name("coco_values.json").read_text(encoding="utf-8"))  # coco_values.py
CAPTIONS, REFERENCES = zip(*COCO["images"], strict=True)
needs_jars = pytest.mark.skipif(bool(java.missing(java.METEOR)), reason=str(java.missing(java.METEOR)))


@pytest.fixture(scope="module")
def scored():
    return metrics().score(images(CAPTIONS, REFERENCES))


def test_corpus_scores_equal_coco_caption(scored):
    names = {"bleu1", "bleu2", "bleu3", "bleu4", "cider", "rouge_l"}
    assert {name: scored.scores()[name] for name in names} == pytest.approx(
        {name: COCO["corpus"][name] for name in names}, abs=1e-8
    )


@pytest.mark.parametrize("name", ["cider", "rouge_l"])
def test_scores_of_each_image_equal_coco_caption(scored, name):
    np.testing.assert_allclose(scored.per_image()[name], COCO["each"][name], atol=1e-8)


def test_bleu_alone_equals_coco_caption():
    metric = CorpusBleu()
    for start in (0, 4):  # in two updates
        metric.update(CAPTIONS[start : start + 4 or None], REFERENCES[start : start + 4 or None])
    metric.update(CAPTIONS[8:], REFERENCES[8:])
    for name, score in metric.compute().items():
        assert score.item() == pytest.approx(COCO["corpus"][name], abs=1e-7)


@needs_jars
def test_meteor_equals_coco_caption():
    metric = meteor()
    written = WordsTokenizer(str.split)
    corpus = Corpus(images(CAPTIONS, REFERENCES), written, TrainingCaptions(None, written))
    statistics = metric.statistics(corpus)
    assert metric.scores(statistics.sum(0))["meteor"] == pytest.approx(COCO["corpus"]["meteor"], abs=1e-12)
    np.testing.assert_allclose(metric.scores(statistics)["meteor"], COCO["each"]["meteor"], atol=1e-12)


@needs_jars
def test_the_ptb_tokenizer_equals_coco_caption():
    assert [" ".join(words) for words in PtbTokenizer()(COCO["written"])] == COCO["ptb"]


@needs_jars
def test_the_ptb_tokenizer_keeps_a_caption_on_its_line():
    assert PtbTokenizer()(["a\nb", "c\u2028d", "", "e"]) == [["a", "b"], ["c", "d"], [], ["e"]]


@pytest.mark.realdata
@pytest.mark.parametrize("share", [1.0, 0.01], ids=["1,000 images", "10 images"])
def test_real_text_equals_the_installed_coco_caption(shared, share):
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    test = flickr8k(str(shared / "flickr8k")).split("test")
    test = test[: int(len(test) * share)]
    found = metrics().score(
        images([image.captions[0] for image in test], [image.captions[1:] for image in test])
    )
    tokenizer = metrics().tokenizer
    said = {i: [" ".join(tokenizer(image.captions[:1])[0])] for i, image in enumerate(test)}
    written = {i: [" ".join(w) for w in tokenizer(image.captions[1:])] for i, image in enumerate(test)}
    for n, score in enumerate(bleu.Bleu(4).compute_score(written, said, verbose=0)[0], 1):
        assert found.scores()[f"bleu{n}"] == pytest.approx(score, abs=1e-6)
    for name, oracle in (("cider", Cider()), ("rouge_l", Rouge())):
        score, each = oracle.compute_score(written, said)
        assert found.scores()[name] == pytest.approx(score, abs=1e-6)
        np.testing.assert_allclose(found.per_image()[name], each, atol=1e-6)
