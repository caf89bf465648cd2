"""Diverse beam search against the algorithm written as loops over images, groups and beams.

Legend: B images, P places of the memory, D width.
"""

import pytest
import torch
from helpers.markov import WORDS, Markov, generated, memories

from autocaption.data.tokenizer import BOS, EOS
from autocaption.errors import UserError
from autocaption.search.beam import BeamSearch
from autocaption.search.diverse_beam import DiverseBeamSearch


def by_hand(decoder, memory_PD, size, groups, diversity, penalty, max_length):
    """[(tokens, score)] of all groups: algorithm 1 of the paper, with a pool of finished captions."""
    live, finished = [[((), 0.0)] for _ in range(groups)], [[] for _ in range(groups)]
    for time in range(max_length):
        chosen = []
        for group in range(groups):
            candidates = []
            for tokens, total in live[group]:
                logp = decoder.logp(memory_PD, [BOS, *tokens]).tolist()
                for token in (EOS, *WORDS):
                    score = total + logp[token]
                    candidates.append((score - diversity * chosen.count(token), (*tokens, token), score))
            candidates.sort(reverse=True)
            finished[group] += [
                (tokens, score / (time + 1) ** penalty)
                for _, tokens, score in candidates[:size]
                if tokens[-1] == EOS
            ]
            live[group] = [(tokens, score) for _, tokens, score in candidates if tokens[-1] != EOS][:size]
            chosen += [tokens[-1] for tokens, _ in live[group]]
    for group in range(groups):
        finished[group] += [(tokens, score / max_length**penalty) for tokens, score in live[group]]
        finished[group] = sorted(finished[group], key=lambda one: -one[1])[:size]
    return [one for group in finished for one in group]


@pytest.mark.parametrize(("size", "groups"), [(1, 3), (2, 2), (5, 2)])
@pytest.mark.parametrize("diversity", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_equals_the_algorithm_by_hand(size, groups, diversity, penalty):
    for seed in range(3):
        decoder, memory_BPD = Markov(seed), memories(seed, 3)
        captions = DiverseBeamSearch(size * groups, groups, diversity, penalty, 5)(decoder, memory_BPD)
        for image, memory_PD in enumerate(memory_BPD):
            expected = by_hand(decoder, memory_PD, size, groups, diversity, penalty, 5)
            found = generated(captions, image)
            assert sorted(tokens for tokens, _ in found) == sorted(tokens for tokens, _ in expected)
            scores = sorted((score for _, score in expected), reverse=True)
            assert [score for _, score in found] == pytest.approx(scores, abs=1e-4)


def test_one_group_is_beam_search():
    for seed in range(4):
        decoder, memory_BPD = Markov(seed), memories(seed, 3)
        plain = BeamSearch(4, 0.5, 5, no_repeat_ngram=2)(decoder, memory_BPD)
        single = DiverseBeamSearch(4, 1, 9.0, 0.5, 5, no_repeat_ngram=2)(decoder, memory_BPD)
        assert torch.equal(single.tokens_BKT, plain.tokens_BKT)


def test_large_penalty_makes_groups_begin_differently():
    decoder, memory_BPD = Markov(1), memories(1, 3)
    captions = DiverseBeamSearch(4, 4, 50.0, 0.5, 5, min_length=1)(decoder, memory_BPD)
    for image in range(3):
        first = [tokens[0] for tokens, _ in generated(captions, image)]
        assert len(first) == 4
        assert set(first) == set(WORDS)  # as many as there are


@pytest.mark.parametrize(("beam_size", "groups"), [(5, 2), (4, 8)])
def test_groups_of_unequal_size_are_refused(beam_size, groups):
    with pytest.raises(UserError, match=f"search.beam_size={beam_size} .* search.groups={groups}"):
        DiverseBeamSearch(beam_size, groups, 0.5, 0.0, 5)
