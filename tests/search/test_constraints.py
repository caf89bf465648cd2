"""Constraints on the next token, the same in every search.

Legend: B images, K captions an image, T time.
"""

import pytest
from helpers.markov import WORDS, Markov, generated, memories

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.errors import UserError
from autocaption.search.beam import BeamSearch
from autocaption.search.diverse_beam import DiverseBeamSearch
from autocaption.search.greedy import GreedySearch
from autocaption.search.sampling import Sampling

SEARCHES = {
    "greedy": GreedySearch,
    "beam": lambda **settings: BeamSearch(3, 0.5, **settings),
    "diverse beam": lambda **settings: DiverseBeamSearch(4, 2, 0.5, 0.5, **settings),
    "sampling": lambda **settings: Sampling(8, 0, temperature=1.0, top_k=0, top_p=1.0, **settings),
}


@pytest.fixture(params=SEARCHES)
def search(request):
    return SEARCHES[request.param]


def captions(search, decoder, **settings):
    """What is generated for five images."""
    found = search(max_length=8, **settings)(decoder, memories(3, 5))
    return [tokens for image in range(5) for tokens, _ in generated(found, image)]


def test_unk_only_if_allowed(search):
    decoder = Markov(3)
    decoder.table_VVV[..., [PAD, BOS, UNK]] += 20
    for allow, present in ((False, set()), (True, {UNK})):
        tokens = {token for caption in captions(search, decoder, allow_unk=allow) for token in caption}
        assert tokens & {PAD, BOS, UNK} == present


def test_min_length(search):
    decoder = Markov(3)
    decoder.table_VVV[..., EOS] += 9  # as short as they may be
    for shortest in (0, 3):
        lengths = {len(caption) for caption in captions(search, decoder, min_length=shortest)}
        assert min(lengths) == shortest + 1  # with <eos>


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_repeated(search, n):
    decoder = Markov(3)
    decoder.table_VVV[:, WORDS[0], WORDS[0]] += 9
    decoder.table_VVV[..., EOS] -= 2

    def repeated(words):
        ngrams = [words[i : i + n] for i in range(len(words) - n + 1)]
        return len(set(ngrams)) < len(ngrams)

    assert any(repeated(caption) for caption in captions(search, decoder))
    assert not any(repeated(caption) for caption in captions(search, decoder, no_repeat_ngram=n))


# There are three words; none may be repeated, and five are needed.
IMPOSSIBLE = {"max_length": 8, "min_length": 5, "no_repeat_ngram": 1}


def test_impossible_caption_scores_minus_infinity(search):
    assert search(**IMPOSSIBLE)(Markov(3), memories(3, 2)).scores_BK.isneginf().all()


@pytest.mark.parametrize("name", ["greedy", "sampling"])
def test_impossible_caption_ends_where_no_token_is_allowed(name):
    found = SEARCHES[name](**IMPOSSIBLE)(Markov(3), memories(3, 2))
    assert found.tokens_BKT[..., : len(WORDS)].all()
    assert not found.tokens_BKT[..., len(WORDS) :].any()


@pytest.mark.parametrize("name", ["min_length", "no_repeat_ngram"])
def test_negative_length_is_refused(search, name):
    with pytest.raises(UserError, match=f"search.{name}=-1: take a whole number, 0 or more"):
        search(max_length=8, **{name: -1})


def test_a_no_in_words_is_not_taken_for_a_yes(search):
    with pytest.raises(UserError, match=r"search.allow_unk=no: take true or false"):
        search(max_length=8, allow_unk="no")


def test_a_length_that_would_take_all_memory_is_refused(search):
    with pytest.raises(
        UserError, match=r"search.max_length=1000000000: take a whole number, from 1 to 10000"
    ):
        search(max_length=10**9)
