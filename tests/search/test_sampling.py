"""Sampling: which tokens may be drawn, how often, and what the draws depend on.

Legend: B images, K samples an image, T time.
"""

import re

import pytest
import torch
from helpers.markov import WORDS, Markov, generated, memories

from autocaption.data.tokenizer import BOS, EOS
from autocaption.errors import UserError
from autocaption.search.greedy import GreedySearch
from autocaption.search.sampling import Sampler, Sampling

ALLOWED = (EOS, *WORDS)


def sampled(decoder, memory_BPD, samples, ids=None, max_length=2, **changes):
    settings = {"seed": 0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, **changes}
    return Sampling(samples, max_length=max_length, **settings)(decoder, memory_BPD, ids)


def first_tokens(decoder, memory_BPD, temperature, top_k, top_p):
    """{token: probability} of the first token, by definition: temperature, then top k, then nucleus."""
    logits = decoder.logp(memory_BPD[0], [BOS]) / temperature
    ranked = sorted(ALLOWED, key=lambda token: -logits[token])[: top_k or None]
    shares = logits[ranked].softmax(0).tolist()
    kept = [token for i, token in enumerate(ranked) if sum(shares[:i]) < top_p]
    return dict(zip(kept, logits[kept].softmax(0).tolist(), strict=True))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.6), (3.0, 0, 0.6), (3.0, 3, 0.6), (0.5, 4, 0.9)],
)
def test_first_token_has_the_defined_distribution(temperature, top_k, top_p):
    decoder, memory_BPD = Markov(8, sharpness=1.0), memories(8, 1)
    expected = first_tokens(decoder, memory_BPD, temperature, top_k, top_p)
    captions = sampled(decoder, memory_BPD, 4000, temperature=temperature, top_k=top_k, top_p=top_p)
    found = [tokens[0] for tokens, _ in generated(captions)]
    assert set(found) == set(expected)
    for token, share in expected.items():
        assert found.count(token) / len(found) == pytest.approx(share, abs=0.03)


def test_captions_are_as_frequent_as_they_are_likely():
    decoder, memory_BPD = Markov(8, sharpness=1.0), memories(8, 1)
    found = [tokens for tokens, _ in generated(sampled(decoder, memory_BPD, 4000))]
    first = decoder.logp(memory_BPD[0], [BOS])[list(ALLOWED)].softmax(0)
    assert found.count((EOS,)) / len(found) == pytest.approx(first[0].item(), abs=0.03)
    for word, share in zip(WORDS, first[1:].tolist(), strict=True):
        second = decoder.logp(memory_BPD[0], [BOS, word])[list(ALLOWED)].softmax(0)
        for token, after in zip(ALLOWED, second.tolist(), strict=True):
            assert found.count((word, token)) / len(found) == pytest.approx(share * after, abs=0.03)


def test_scores_ignore_temperature_and_truncation():
    decoder, memory_BPD = Markov(1), memories(1, 1)
    for tokens, score in generated(sampled(decoder, memory_BPD, 50, temperature=2.0, top_k=3, top_p=0.9)):
        logp = [decoder.logp(memory_BPD[0], [BOS, *tokens[:i]])[token] for i, token in enumerate(tokens)]
        assert score == pytest.approx(float(sum(logp)), abs=1e-4)


def test_samples_depend_on_seed_and_image_only():
    decoder, memory_BPD = Markov(5, sharpness=0.3), memories(5, 4)
    ids = ["a", "b", "c", "d"]
    together = sampled(decoder, memory_BPD, 3, ids, max_length=6)
    order = [2, 0, 3]
    again = sampled(decoder, memory_BPD[order], 3, [ids[i] for i in order], max_length=6)
    assert torch.equal(again.tokens_BKT, together.tokens_BKT[order])
    for other in (
        sampled(decoder, memory_BPD, 3, ids, max_length=6, seed=1),
        sampled(decoder, memory_BPD, 3, ids[::-1], max_length=6),
    ):
        assert not torch.equal(other.tokens_BKT, together.tokens_BKT)


def test_images_without_ids_get_different_draws():
    decoder, memory_BPD = Markov(5, sharpness=0.3), memories(5, 1).expand(4, -1, -1)
    captions = sampled(decoder, memory_BPD, 2, max_length=6)
    assert len({tuple(row) for rows in captions.tokens_BKT.tolist() for row in rows}) > 4


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"temperature": 1e-3}, {"top_p": 1e-6}], ids=str)
def test_narrowest_sampling_is_greedy(narrow):
    decoder, memory_BPD = Markov(7), memories(7, 6)
    greedy = GreedySearch(5)(decoder, memory_BPD)
    found = sampled(decoder, memory_BPD, 4, max_length=5, **narrow)
    for image in range(6):
        assert {tokens for tokens, _ in generated(found, image)} == {generated(greedy, image)[0][0]}


@pytest.mark.parametrize("narrow", [{"top_k": 0, "top_p": 1.0}, {"top_k": 4, "top_p": 0.9}], ids=str)
def test_a_negative_draw_takes_the_most_likely_token_and_others_do_not_change(narrow):
    decoder, memory_BPD = Markov(7), memories(7, 3)
    sampler = Sampler(temperature=1.0, max_length=5, **narrow)
    draws_BKT = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(1))
    alone = sampler(decoder, memory_BPD, draws_BKT).tokens_BKT
    beside = sampler(decoder, memory_BPD, torch.cat([draws_BKT, torch.full((3, 1, 5), -1.0)], 1)).tokens_BKT
    assert torch.equal(beside[:, :2], alone)
    assert torch.equal(beside[:, 2:], GreedySearch(5)(decoder, memory_BPD).tokens_BKT)


def test_the_largest_draw_takes_no_forbidden_token():
    memory_BPD, largest = memories(8, 1), torch.full((1, 1, 3), 1 - 2**-24)
    for top_p in (1.0, 0.5):
        sampler = Sampler(temperature=1.0, top_k=0, top_p=top_p, max_length=3, no_repeat_ngram=1)
        tokens = sampler(Markov(8), memory_BPD, largest).tokens_BKT[0, 0].tolist()
        assert set(tokens) <= {EOS, *WORDS}
        assert len(set(tokens)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": 1e-40},
        {"temperature": 1e39},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"samples": 0},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(changes):
    settings = {"samples": 1, "seed": 0, "temperature": 1.0, "top_k": 0, "top_p": 0.9, **changes}
    (name,) = changes
    with pytest.raises(UserError, match=re.escape(f"{name}={changes[name]}")):
        Sampling(max_length=4, **settings)
