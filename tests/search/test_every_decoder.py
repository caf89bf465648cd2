"""Search over every decoder of conf/, and ensembles of them, against all that can be said.

Legend: B images, K captions an image, T time, P places, D width, V vocabulary.
"""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autocaption.data.tokenizer import BOS, EOS, UNK
from autocaption.models.ensemble import EnsembleDecoder
from autocaption.search.beam import BeamSearch
from autocaption.search.diverse_beam import DiverseBeamSearch
from autocaption.search.greedy import GreedySearch
from autocaption.search.sampling import Sampling

FILES = {
    file.stem: file for file in sorted((Path(__file__).parents[2] / "conf/model/decoder").glob("*.yaml"))
}
SMALL = {"embed_dim": 8, "hidden_dim": 8, "attention_dim": 8, "width": 8, "heads": 2, "layers": 1}
V, P, D = 7, 3, 4
WORDS = tuple(range(UNK + 1, V))
MODELS = [*FILES, "ensemble"]


def make(name, seed):
    if name == "ensemble":
        return EnsembleDecoder([make(member, seed + i) for i, member in enumerate(FILES)]).eval()
    config = OmegaConf.load(FILES[name])
    config.update({key: value for key, value in SMALL.items() if key in config})
    torch.manual_seed(seed)
    decoder = instantiate(config, vocab_size=V, memory_dim=D).eval()
    with torch.no_grad():  # else every caption is about as likely
        for parameter in decoder.parameters():
            parameter *= 2
    return decoder


def memories(seed, images):
    return torch.randn(images, P, D, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def everything(decoder, memory_PD, max_length, penalty=0.0, min_length=0, ngram=0):
    """{tokens: score} of all captions that the rules allow, from the training pass."""
    found = {}
    sequences = [list(said) for said in product(WORDS, repeat=max_length)]
    inputs_BNT = torch.tensor([[[BOS, *said] for said in sequences]])
    logp_NTV = decoder.head(decoder(memory_PD[None], inputs_BNT).hidden_BNTD[0]).double()
    logp_NTV = logp_NTV.log_softmax(-1)
    for said, logp_TV in zip(sequences, logp_NTV.tolist(), strict=True):
        total = 0.0
        for time in range(max_length + 1):
            grams = [tuple(said[i : i + ngram]) for i in range(time - ngram + 1)] if ngram else []
            if len(set(grams)) < len(grams):
                break
            if time == max_length:
                found[tuple(said)] = total / max_length**penalty
                break
            if time >= min_length:
                found[(*said[:time], EOS)] = (total + logp_TV[time][EOS]) / (time + 1) ** penalty
            total += logp_TV[time][said[time]]
    return found


def as_tuples(captions, image):
    assert not captions.scores_BK.isnan().any()
    rows = zip(captions.tokens_BKT[image].tolist(), captions.scores_BK[image].tolist(), strict=True)
    return [
        (tuple(row[: row.index(EOS) + 1] if EOS in row else [t for t in row if t]), score)
        for row, score in rows
        if score > -math.inf
    ]


RULES = {"penalty": st.sampled_from([0.0, 1.0]), "min_length": st.integers(0, 4), "ngram": st.integers(0, 3)}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), **RULES)
def test_a_wide_beam_equals_brute_force(name, seed, penalty, min_length, ngram):
    decoder, memory_BPD = make(name, seed), memories(seed, 2)
    rules = {"min_length": min_length, "no_repeat_ngram": ngram}
    captions = BeamSearch(100, penalty, 4, **rules)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        truth = everything(decoder, memory_PD, 4, penalty, min_length, ngram)
        found = as_tuples(captions, image)
        assert len(found) == min(100, len(truth))
        assert [s for _, s in found] == pytest.approx(sorted(truth.values(), reverse=True)[:100], abs=1e-4)
        assert [s for _, s in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_beam_1_is_greedy_and_batches_change_nothing(name):
    for seed in range(4):
        decoder, memory_BPD = make(name, seed), memories(seed, 9)
        rules = {"min_length": 2, "no_repeat_ngram": 2}
        for search in (GreedySearch(7, **rules), BeamSearch(1, 0.0, 7, **rules), BeamSearch(3, 0.5, 7)):
            captions = search(decoder, memory_BPD)
            for image in range(9):
                alone = as_tuples(search(decoder, memory_BPD[image : image + 1]), 0)
                assert [t for t, _ in as_tuples(captions, image)] == [t for t, _ in alone]
        one, greedy = BeamSearch(1, 0.0, 7, **rules), GreedySearch(7, **rules)
        found, expected = one(decoder, memory_BPD), greedy(decoder, memory_BPD)
        for image in range(9):
            assert as_tuples(found, image)[0][0] == as_tuples(expected, image)[0][0]


@torch.no_grad()
def test_an_ensemble_averages_probabilities():
    members, memory_BPD = [make(name, 3) for name in FILES], memories(3, 2)
    tokens_BNT = torch.tensor([[[BOS, 4, 5]], [[BOS, 6, 6]]])
    each = [d.head(d(memory_BPD, tokens_BNT).hidden_BNTD).softmax(-1) for d in members]
    together = EnsembleDecoder(members)
    found = together.head(together(memory_BPD, tokens_BNT).hidden_BNTD).exp()
    torch.testing.assert_close(found, torch.stack(each).mean(0))
    # A memory of each member's own, too.
    own = (memory_BPD, memory_BPD * 2, memory_BPD[:, :2])
    each = [d.head(d(m, tokens_BNT).hidden_BNTD).softmax(-1) for d, m in zip(members, own, strict=True)]
    found = together.head(together(own, tokens_BNT).hidden_BNTD).exp()
    torch.testing.assert_close(found, torch.stack(each).mean(0))
    assert BeamSearch(2, 0.0, 4)(together, own).scores_BK.isfinite().all()


def sampled(decoder, memory_BPD, samples, ids=None, seed=0, temperature=1.0, top_k=0, top_p=1.0, **rules):
    search = Sampling(samples, seed, temperature, top_k, top_p, 2, **rules)
    return search(decoder, memory_BPD, ids)


@pytest.mark.parametrize("name", MODELS)
def test_sample_frequencies_match_probabilities(name):
    decoder, memory_BPD = make(name, 1), memories(1, 1)
    with torch.no_grad():
        logits = decoder.head(decoder(memory_BPD, torch.tensor([[[BOS]]])).hidden_BNTD)[0, 0, 0]
    shares = logits[[EOS, *WORDS]].double().softmax(-1).tolist()
    found = as_tuples(sampled(decoder, memory_BPD, 4000), 0)
    first = [sum(tokens[0] == word for tokens, _ in found) / len(found) for word in (EOS, *WORDS)]
    assert first == pytest.approx(shares, abs=0.03)
    truth = everything(decoder, memory_BPD[0], 2)
    assert [score for _, score in found] == pytest.approx([truth[tokens] for tokens, _ in found], abs=1e-4)


def test_a_sample_depends_on_seed_and_image_alone():
    decoder, memory_BPD = make("lstm", 5), memories(5, 4)
    ids = ["a", "b", "c", "d"]
    together = sampled(decoder, memory_BPD, 3, ids)
    order = [2, 0, 3]
    again = sampled(decoder, memory_BPD[order], 3, [ids[i] for i in order])
    assert torch.equal(again.tokens_BKT, together.tokens_BKT[order])
    assert not torch.equal(sampled(decoder, memory_BPD, 3, ids, seed=1).tokens_BKT, together.tokens_BKT)
    assert not torch.equal(sampled(decoder, memory_BPD, 3, ids[::-1]).tokens_BKT, together.tokens_BKT)
    scores_BK = together.scores_BK
    assert torch.equal(scores_BK, scores_BK.sort(descending=True).values)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"temperature": 1e-3}, {"top_p": 1e-6}], ids=str)
def test_top_k_1_is_greedy(narrow):
    decoder, memory_BPD = make("transformer", 7), memories(7, 6)
    greedy = GreedySearch(2)(decoder, memory_BPD)
    found = sampled(decoder, memory_BPD, 4, **narrow)
    for image in range(6):
        assert {tokens for tokens, _ in as_tuples(found, image)} == {as_tuples(greedy, image)[0][0]}


@pytest.mark.parametrize("top", [{"top_k": 3}, {"top_p": 0.6}], ids=str)
def test_nothing_outside_the_top_is_drawn(top):
    decoder, memory_BPD = make("attention", 2), memories(2, 1)
    with torch.no_grad():
        logits = decoder.head(decoder(memory_BPD, torch.tensor([[[BOS]]])).hidden_BNTD)[0, 0, 0]
    allowed = [EOS, *WORDS]
    shares = dict(zip(allowed, logits[allowed].softmax(-1).tolist(), strict=True))
    ranked, kept, mass = sorted(allowed, key=lambda w: -shares[w]), [], 0.0
    for word in ranked:
        if len(kept) == top.get("top_k", V) or mass >= top.get("top_p", 1.0):
            break
        kept.append(word)
        mass += shares[word]
    found = {tokens[0] for tokens, _ in as_tuples(sampled(decoder, memory_BPD, 2000, **top), 0)}
    assert found == set(kept)
    assert 1 <= len(kept) < len(allowed)


def test_diverse_beams():
    for seed in range(4):
        decoder, memory_BPD = make("transformer", seed), memories(seed, 3)
        plain = BeamSearch(4, 0.5, 5)(decoder, memory_BPD)
        single = DiverseBeamSearch(4, 1, 9.0, 0.5, 5)(decoder, memory_BPD)
        assert torch.equal(single.tokens_BKT, plain.tokens_BKT)
        # Without a prize for it, groups all say the same; with a large one, they begin differently.
        alike = DiverseBeamSearch(4, 4, 0.0, 0.5, 5)(decoder, memory_BPD)
        apart = DiverseBeamSearch(4, 4, 50.0, 0.5, 5, min_length=1)(decoder, memory_BPD)
        for image in range(3):
            truth = everything(decoder, memory_BPD[image], 5, 0.5)
            assert len({tokens for tokens, _ in as_tuples(alike, image)}) == 1
            words = [tokens[0] for tokens, _ in as_tuples(apart, image)]
            assert len(words) == 4
            assert len(set(words)) == len(WORDS)  # as many as there are
            for tokens, score in as_tuples(apart, image):
                assert score == pytest.approx(truth[tokens], abs=1e-4)
