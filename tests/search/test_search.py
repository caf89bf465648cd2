"""Beam and greedy search against brute force, on decoders small enough to list every caption.

Legend: B images, K captions an image, T time, P places of the memory, D width, V vocabulary, R rows.
"""

import math

import pytest
import torch
from helpers.markov import WORDS, D, Markov, V, generated, memories
from hypothesis import given, settings
from hypothesis import strategies as st

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.models.decoders.lstm import LSTMDecoder
from autocaption.search.beam import BeamSearch
from autocaption.search.greedy import GreedySearch
from autocaption.search.hypotheses import top

PENALTIES = (0.0, 0.7, 1.0, 2.0, -0.5)


class Network(LSTMDecoder):
    def __init__(self, seed):
        torch.manual_seed(seed)
        super().__init__(V, D, 8, 8, layers=2, dropout=0.0, batch_norm_momentum=0.1)
        self.eval()
        with torch.no_grad():
            self.output.weight *= 8  # else all captions are about equally likely

    @torch.no_grad()
    def logp(self, memory_PD, tokens):
        hidden_BNTD, _ = self(memory_PD[None], torch.tensor([[tokens]]))
        return self.head(hidden_BNTD[0, 0, -1]).double().log_softmax(-1)


def all_captions(decoder, memory_PD, max_length, penalty, words=WORDS):
    """{tokens: score} of every possible caption, by the definition in BeamSearch."""
    found = {}

    def grow(tokens, total):
        if len(tokens) == max_length:
            found[tokens] = total / len(tokens) ** penalty
            return
        logp = decoder.logp(memory_PD, [BOS, *tokens]).tolist()
        found[(*tokens, EOS)] = (total + logp[EOS]) / (len(tokens) + 1) ** penalty
        for word in words:
            grow((*tokens, word), total + logp[word])

    grow((), 0.0)
    return found


def greedy_caption(decoder, memory_PD, max_length, words=WORDS):
    tokens, total = (), 0.0
    while len(tokens) < max_length and EOS not in tokens:
        logp = decoder.logp(memory_PD, [BOS, *tokens]).tolist()
        best = max((EOS, *words), key=lambda token: logp[token])
        tokens, total = (*tokens, best), total + logp[best]
    return tokens, total


def assert_best_of(found, truth, k):
    """The k best, each once; equally likely captions may be swapped."""
    assert len({tokens for tokens, _ in found}) == len(found)
    scores = sorted(truth.values(), reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-4)
    assert [score for _, score in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    penalty=st.sampled_from(PENALTIES),
    sharpness=st.sampled_from([0.3, 2.0, 6.0]),
    beam_size=st.sampled_from([40, 130]),  # 130 is more than the number of captions
    max_length=st.integers(1, 4),
)
def test_wide_beam_equals_brute_force(seed, penalty, sharpness, beam_size, max_length):
    decoder, memory_BPD = Markov(seed, sharpness=sharpness), memories(seed, 2)
    captions = BeamSearch(beam_size, penalty, max_length)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        truth = all_captions(decoder, memory_PD, max_length, penalty)
        assert_best_of(generated(captions, image), truth, beam_size)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_wide_beam_equals_brute_force_with_a_network(penalty):
    decoder, memory_BPD = Network(0), memories(0, 2)
    captions = BeamSearch(15, penalty, 3)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        assert_best_of(generated(captions, image), all_captions(decoder, memory_PD, 3, penalty), 15)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), penalty=st.sampled_from(PENALTIES), beam_size=st.integers(1, 4))
def test_narrow_beam_returns_correct_scores(seed, penalty, beam_size):
    decoder, memory_BPD = Markov(seed), memories(seed, 1)
    found = generated(BeamSearch(beam_size, penalty, 4)(decoder, memory_BPD))
    truth = all_captions(decoder, memory_BPD[0], 4, penalty)
    assert len({tokens for tokens, _ in found}) == beam_size
    assert [score for _, score in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), max_length=st.integers(1, 8))
def test_greedy_takes_the_most_likely_token(seed, max_length):
    decoder, memory_BPD = Markov(seed), memories(seed, 3)
    captions = GreedySearch(max_length)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        ((tokens, score),) = generated(captions, image)
        expected, total = greedy_caption(decoder, memory_PD, max_length)
        assert (tokens, score) == (expected, pytest.approx(total, abs=1e-4))


@pytest.mark.parametrize("make", [Markov, Network])
def test_beam_of_one_is_greedy(make):
    for seed in range(20):
        decoder, memory_BPD = make(seed), memories(seed, 4)
        one = BeamSearch(1, 0.0, 6)(decoder, memory_BPD)
        greedy = GreedySearch(6)(decoder, memory_BPD)
        for image in range(4):
            ((tokens, score),), ((expected, total),) = generated(one, image), generated(greedy, image)
            assert (tokens, score) == (expected, pytest.approx(total, abs=1e-4))


@pytest.mark.parametrize("search", [GreedySearch(6), BeamSearch(3, 0.0, 6), BeamSearch(2, 2.0, 9)])
@pytest.mark.parametrize("make", [Markov, Network])
def test_batch_gives_the_same_as_single_images(make, search):
    for seed in range(8):
        decoder, memory_BPD = make(seed), memories(seed, 4)
        memory_BPD[2, :, 0] = -40  # never ends, so the search continues when the others are done
        captions = search(decoder, memory_BPD)
        for image in range(4):
            alone = generated(search(decoder, memory_BPD[image : image + 1]))
            together = generated(captions, image)
            assert [tokens for tokens, _ in together] == [tokens for tokens, _ in alone]
            assert [s for _, s in together] == pytest.approx([s for _, s in alone], abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_search_continues_while_a_longer_caption_can_win(beam_size):
    decoder, word = Markov(0, UNK + 2), UNK + 1
    decoder.table_VVV[...] = -50
    decoder.table_VVV[BOS, BOS, [EOS, word]] = torch.tensor([0.8, 0.2]).log()
    decoder.table_VVV[:, word, word] = 0  # after the first word, all others are certain
    captions = BeamSearch(beam_size, 1.0, 9)(decoder, torch.zeros(1, 1, D))
    tokens, score = generated(captions)[0]
    assert tokens == (word,) * 9
    assert score == pytest.approx(math.log(0.2) / 9, abs=1e-4)  # <eos> at once has log(0.8)


def test_search_continues_while_a_shorter_caption_can_win():
    # Under a negative penalty short captions win, so the bound is that of the next length.
    decoder, (a, b, c) = Markov(0), WORDS
    decoder.table_VVV[...] = 0
    decoder.table_VVV[BOS, BOS, [EOS, a, b, c]] = torch.tensor([0.35, 0.4, 0.2, 0.05]).log()
    decoder.table_VVV[BOS, a, [EOS, a, b, c]] = torch.tensor([0.2, 0.05, 0.05, 0.7]).log()
    decoder.table_VVV[a, c, EOS] = 30
    decoder.table_VVV[..., [PAD, BOS, UNK]] = -50
    found = generated(BeamSearch(2, -1.0, 9)(decoder, torch.zeros(1, 1, D)))
    assert [tokens for tokens, _ in found] == [(EOS,), (a, c, EOS)]  # before that, (a, EOS) is in the pool


def test_search_stops_once_no_beam_can_win():
    decoder = Markov(0)
    decoder.table_VVV[..., EOS] += 30
    for search in (GreedySearch(50), BeamSearch(1, 0.0, 50)):
        decoder.steps.clear()
        assert generated(search(decoder, memories(0, 1)))[0][0] == (EOS,)
        assert len(decoder.steps) == 1


def test_finished_images_leave_the_batch():
    decoder, memory_BPD = Markov(0), memories(0, 4)
    memory_BPD[:3, :, 0], memory_BPD[3, :, 0] = 40, -40  # three end at once, one never
    BeamSearch(2, 0.0, 6)(decoder, memory_BPD)
    assert decoder.steps[0] == 4  # before the first word, a row an image
    assert decoder.steps[-1] == 2


@pytest.mark.parametrize("size", [V, UNK + 2])  # four candidates at a time, or two: fewer than the beams
@pytest.mark.parametrize("beam_size", [1, 3, 9])
@pytest.mark.parametrize("eos", [math.inf, 50.0, -50.0, -math.inf])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_certain_and_impossible_endings(size, beam_size, eos, penalty):
    decoder, memory_BPD = Markov(1, size), memories(1, 2)
    if eos == math.inf:  # certain: all else is impossible
        decoder.table_VVV[..., torch.arange(size) != EOS] = -math.inf
    else:
        decoder.table_VVV[..., EOS] += eos
    words = range(UNK + 1, size)
    greedy = GreedySearch(4)(decoder, memory_BPD)
    beam = BeamSearch(beam_size, penalty, 4)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        truth = all_captions(decoder, memory_PD, 4, penalty, words)
        truth = {tokens: score for tokens, score in truth.items() if score > -math.inf}
        found = generated(beam, image)
        best = found[0][0]
        assert best == (EOS,) if eos > 0 else (EOS not in best and len(best) == 4)
        assert generated(greedy, image)[0][0] == greedy_caption(decoder, memory_PD, 4, words)[0]
        assert len(found) == min(beam_size, len(truth))
        assert [score for _, score in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-3)


def test_wide_beam_equals_brute_force_with_unk():
    decoder, memory_BPD = Markov(4), memories(4, 1)
    found = generated(BeamSearch(25, 1.0, 3, allow_unk=True)(decoder, memory_BPD))
    truth = all_captions(decoder, memory_BPD[0], 3, 1.0, words=(UNK, *WORDS))
    assert_best_of(found, truth, 25)
    assert any(UNK in tokens for tokens, _ in found)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), beams=st.integers(1, 4), size=st.integers(1, 300), k=st.integers(1, 12))
def test_top_equals_topk(seed, beams, size, k):
    random = torch.Generator().manual_seed(seed)
    scores_BK = torch.randn(3, beams, generator=random)
    logp_BKV = torch.randn(3, beams, size, generator=random)
    logp_BKV[logp_BKV < 0.2] = -torch.inf
    sums_BC, k = (scores_BK.unsqueeze(2) + logp_BKV).flatten(1), min(k, beams * size)
    found, index = top(scores_BK, logp_BKV, k)
    assert torch.equal(found, sums_BC.topk(k).values)
    assert torch.equal(sums_BC.gather(1, index), found)
    assert all(len(set(row)) == len(row) for row in index.tolist())
