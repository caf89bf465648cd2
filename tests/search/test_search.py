"""Search against brute force, on decoders small enough to list everything they can say.

Legend: B images, K captions an image, T time, P places, D width, V vocabulary, R rows.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.models.decoders.lstm import LSTMDecoder
from autocaption.models.protocols import State
from autocaption.search.beam import BeamSearch
from autocaption.search.greedy import GreedySearch
from autocaption.search.hypotheses import top

V, D = 7, 3
WORDS = tuple(range(UNK + 1, V))
PENALTIES = (0.0, 0.7, 1.0, 2.0, -0.5)


class Markov:
    """Logits that hang on the memory and the last two tokens; memory[0] is added to that of <eos>."""

    def __init__(self, seed, size=V, sharpness=2.0):
        random = torch.Generator().manual_seed(seed)
        self.table_VVV = sharpness * torch.randn(size, size, size, generator=random)
        self.mix_DV = torch.randn(D, size, generator=random)
        self.mix_DV[0] = torch.eye(size)[EOS]

    def init_state(self, memory_BPD):
        bias_BV = memory_BPD.mean(1) @ self.mix_DV
        return State({"last": torch.full((len(memory_BPD),), BOS)}, {"bias": bias_BV})

    def step(self, tokens_R, state):
        bias_BV = state.images["bias"]
        bias_RV = bias_BV.repeat_interleave(len(tokens_R) // len(bias_BV), 0)
        logits_RV = self.table_VVV[state.rows["last"], tokens_R] + bias_RV
        return logits_RV, State({"last": tokens_R}, state.images)

    def logp(self, memory_PD, tokens):
        """Log-probabilities of the next token, without a state."""
        *_, before, last = BOS, *tokens
        return (self.table_VVV[before, last] + memory_PD.mean(0) @ self.mix_DV).double().log_softmax(-1)


class Network(LSTMDecoder):
    def __init__(self, seed):
        torch.manual_seed(seed)
        super().__init__(V, D, 8, 8, layers=2, dropout=0.0, batch_norm_momentum=0.1)
        self.eval()
        with torch.no_grad():
            self.output.weight *= 8  # else every caption is about as likely

    @torch.no_grad()
    def logp(self, memory_PD, tokens):
        hidden_BNTD, _ = self(memory_PD[None], torch.tensor([[tokens]]))
        return self.head(hidden_BNTD[0, 0, -1]).double().log_softmax(-1)


def memories(seed, images):
    return torch.randn(images, 2, D, generator=torch.Generator().manual_seed(seed))


def all_captions(decoder, memory_PD, max_length, penalty, words=WORDS):
    """{tokens: score} of everything that can be said, by the definition in BeamSearch."""
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


def as_tuples(captions, image=0):
    """[(tokens, score)] of an image, best first, without those that are none; checks their form."""
    found = []
    assert not captions.scores_BK.isnan().any()
    scores_K = captions.scores_BK[image].tolist()
    assert scores_K == sorted(scores_K, reverse=True)
    for tokens, score in zip(captions.tokens_BKT[image].tolist(), scores_K, strict=True):
        if score > -math.inf:
            kept = tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens
            assert set(tokens[len(kept) :]) <= {PAD}
            found.append((tuple(kept), score))
    assert len({tokens for tokens, _ in found}) == len(found)
    return found


def assert_best_of(found, truth, k):
    """The k best; captions as likely as each other may change places."""
    scores = sorted(truth.values(), reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-4)
    assert [score for _, score in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    penalty=st.sampled_from(PENALTIES),
    sharpness=st.sampled_from([0.3, 2.0, 6.0]),
    beam_size=st.sampled_from([40, 130]),  # 130 is more than can be said
    max_length=st.integers(1, 4),
)
def test_a_wide_beam_equals_brute_force(seed, penalty, sharpness, beam_size, max_length):
    decoder, memory_BPD = Markov(seed, sharpness=sharpness), memories(seed, 2)
    captions = BeamSearch(beam_size, penalty, max_length)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        truth = all_captions(decoder, memory_PD, max_length, penalty)
        assert_best_of(as_tuples(captions, image), truth, beam_size)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_wide_beam_equals_brute_force_with_a_network(penalty):
    decoder, memory_BPD = Network(0), memories(0, 2)
    captions = BeamSearch(15, penalty, 3)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        assert_best_of(as_tuples(captions, image), all_captions(decoder, memory_PD, 3, penalty), 15)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), penalty=st.sampled_from(PENALTIES), beam_size=st.integers(1, 4))
def test_narrow_beam_scores_are_exact_and_at_most_brute_force(seed, penalty, beam_size):
    decoder, memory_BPD = Markov(seed), memories(seed, 1)
    found = as_tuples(BeamSearch(beam_size, penalty, 4)(decoder, memory_BPD))
    truth = all_captions(decoder, memory_BPD[0], 4, penalty)
    assert len(found) == beam_size
    assert [score for _, score in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), max_length=st.integers(1, 8))
def test_greedy_takes_the_likeliest_word(seed, max_length):
    decoder, memory_BPD = Markov(seed), memories(seed, 3)
    captions = GreedySearch(max_length)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        ((tokens, score),) = as_tuples(captions, image)
        expected, total = greedy_caption(decoder, memory_PD, max_length)
        assert (tokens, score) == (expected, pytest.approx(total, abs=1e-4))


@pytest.mark.parametrize("make", [Markov, Network])
def test_a_beam_of_one_is_greedy(make):
    for seed in range(20):
        decoder, memory_BPD = make(seed), memories(seed, 4)
        one = BeamSearch(1, 0.0, 6)(decoder, memory_BPD)
        greedy = GreedySearch(6)(decoder, memory_BPD)
        for image in range(4):
            ((tokens, score),), ((expected, total),) = as_tuples(one, image), as_tuples(greedy, image)
            assert (tokens, score) == (expected, pytest.approx(total, abs=1e-4))


@pytest.mark.parametrize("search", [GreedySearch(6), BeamSearch(3, 0.0, 6), BeamSearch(2, 2.0, 9)])
@pytest.mark.parametrize("make", [Markov, Network])
def test_a_batch_gives_what_single_images_give(make, search):
    for seed in range(8):
        decoder, memory_BPD = make(seed), memories(seed, 4)
        memory_BPD[2, :, 0] = -40  # never ends, and so keeps the others' search going
        captions = search(decoder, memory_BPD)
        for image in range(4):
            alone = as_tuples(search(decoder, memory_BPD[image : image + 1]))
            together = as_tuples(captions, image)
            assert [tokens for tokens, _ in together] == [tokens for tokens, _ in alone]
            assert [s for _, s in together] == pytest.approx([s for _, s in alone], abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_search_continues_while_a_longer_caption_can_win(beam_size):
    decoder, word = Markov(0, UNK + 2), UNK + 1
    decoder.table_VVV[...] = -50
    decoder.table_VVV[BOS, BOS, [EOS, word]] = torch.tensor([0.8, 0.2]).log()
    decoder.table_VVV[:, word, word] = 0  # after the first word, all others are certain
    captions = BeamSearch(beam_size, 1.0, 9)(decoder, torch.zeros(1, 1, D))
    tokens, score = as_tuples(captions)[0]
    assert tokens == (word,) * 9
    assert score == pytest.approx(math.log(0.2) / 9, abs=1e-4)  # <eos> at once has log(0.8)


@pytest.mark.parametrize("size", [V, UNK + 2])  # four candidates at a time, or two: less than the beam
@pytest.mark.parametrize("beam_size", [1, 3, 9])
@pytest.mark.parametrize("eos", [math.inf, 50.0, -50.0, -math.inf])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_extreme_crops(size, beam_size, eos, penalty):
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
        found = as_tuples(beam, image)
        best = found[0][0]
        assert best == (EOS,) if eos > 0 else (EOS not in best and len(best) == 4)
        assert as_tuples(greedy, image)[0][0] == greedy_caption(decoder, memory_PD, 4, words)[0]
        assert len(found) == min(beam_size, len(truth))
        assert [score for _, score in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-3)


@pytest.mark.parametrize("make", [GreedySearch, lambda *rest: BeamSearch(3, 0.5, *rest)])
def test_unk_only_where_allowed(make):
    decoder, memory_BPD = Markov(3), memories(3, 5)
    decoder.table_VVV[..., [PAD, BOS, UNK]] += 20
    for allow, present in ((False, set()), (True, {UNK})):
        captions = make(4, allow)(decoder, memory_BPD)
        tokens = {token for image in range(5) for words, _ in as_tuples(captions, image) for token in words}
        assert tokens & {PAD, BOS, UNK} == present


def test_a_wide_beam_equals_brute_force_with_unk():
    decoder, memory_BPD = Markov(4), memories(4, 1)
    found = as_tuples(BeamSearch(25, 1.0, 3, allow_unk=True)(decoder, memory_BPD))
    truth = all_captions(decoder, memory_BPD[0], 3, 1.0, words=(UNK, *WORDS))
    assert_best_of(found, truth, 25)
    assert any(UNK in tokens for tokens, _ in found)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 700), k=st.integers(1, 12))
def test_the_best_of_many_candidates(seed, size, k):
    random = torch.Generator().manual_seed(seed)
    scores_BC = torch.randn(3, size, generator=random)
    scores_BC[scores_BC < 0.2] = -torch.inf
    found, places = top(scores_BC, min(k, size))
    assert torch.equal(found, scores_BC.topk(min(k, size)).values)
    assert torch.equal(scores_BC.gather(1, places), found)
    assert all(len(set(row)) == len(row) for row in places.tolist())
