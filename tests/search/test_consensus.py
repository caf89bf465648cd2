"""Consensus search against CIDEr-D as the metrics compute it.

Legend: B images, P places of the memory, D width.
"""

import numpy as np
import pytest
import torch
from helpers.markov import Markov, generated, memories

from autocaption.data.tokenizer import EOS
from autocaption.metrics.cider import CiderD
from autocaption.metrics.ngrams import DocumentFrequencies
from autocaption.search import consensus
from autocaption.search.beam import BeamSearch
from autocaption.search.consensus import ConsensusSearch

# Every n-gram is in none of the documents, and so weighs the same.
EQUAL = DocumentFrequencies(2, np.empty(0, np.uint64), np.empty(0, np.int64))
SETTINGS = {"length_penalty": 0.5, "max_length": 9}


def by_metric(candidates):
    """The mean CIDEr-D of each candidate against all of them, from 0 to 1."""
    words = [[str(token) for token in tokens if token > EOS] for tokens, _ in candidates]
    return CiderD([words], EQUAL).score(words, np.zeros(len(words), np.int64)) / 10


@pytest.mark.parametrize("largest", [1, 2**27])  # pieces of one image, and all images at once
def test_orders_the_beam_by_mean_similarity(largest, monkeypatch):
    monkeypatch.setattr(consensus, "LARGEST", largest)
    moved = 0
    for seed in range(4):
        decoder, memory_BPD = Markov(seed), memories(seed, 3)
        beam = BeamSearch(12, **SETTINGS)(decoder, memory_BPD)
        captions = ConsensusSearch(12, **SETTINGS)(decoder, memory_BPD)
        for image in range(3):
            candidates, found = generated(beam, image), generated(captions, image)
            score_of = dict(zip((tokens for tokens, _ in candidates), by_metric(candidates), strict=True))
            assert dict(found) == pytest.approx(score_of, abs=1e-6)
            moved += found[0][0] != candidates[0][0]
    assert moved > 6  # else the order is the beam's


def test_keeps_the_log_probabilities_of_its_captions():
    decoder, memory_BPD = Markov(1), memories(1, 2)
    plain = BeamSearch(12, 0.0, 9)(decoder, memory_BPD)
    captions = ConsensusSearch(12, length_penalty=0.0, max_length=9)(decoder, memory_BPD)
    for image in range(2):
        logp_of = dict(generated(plain, image))
        tokens = [tokens for tokens, _ in generated(captions, image)]
        assert captions.logp_BK[image].tolist() == pytest.approx([logp_of[own] for own in tokens])


def test_places_without_a_caption_stay_last_and_count_for_nothing():
    decoder, memory_BPD = Markov(2), memories(2, 2)
    short = {"length_penalty": 0.0, "max_length": 1}
    few = ConsensusSearch(4, **short)(decoder, memory_BPD)
    many = ConsensusSearch(9, **short)(decoder, memory_BPD)
    assert many.scores_BK.isinf().any()
    assert len(generated(few)) == 4
    for tokens, score in generated(many):
        alone = by_metric(generated(many))
        assert score == pytest.approx(alone[[own for own, _ in generated(many)].index(tokens)])


def test_a_caption_of_words_only_is_scored():
    """A caption that no <eos> ends, and repeated words, which count as often as both have them."""
    tokens_BKT = torch.tensor([[[4, 4, 4, 5], [4, 4, 5, EOS], [6, EOS, 0, 0], [EOS, 0, 0, 0]]])
    similarity_BK = consensus.mean_similarity(tokens_BKT, torch.ones(1, 4, dtype=torch.bool))
    expected = by_metric([(row, None) for row in tokens_BKT[0].tolist()])
    assert similarity_BK[0].tolist() == pytest.approx(expected, abs=1e-6)
