"""Searches with every decoder of conf/ and an ensemble of them, against a list of all captions.

Legend: B images, K captions an image, T time, P places of the memory, D width, V vocabulary.
"""

from itertools import product
from pathlib import Path

import pytest
import torch
from helpers.decoders import LANGUAGE_MODEL, has_extra, require_extra
from helpers.markov import WORDS, V, generated
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autocaption.data.tokenizer import BOS, EOS
from autocaption.models.ensemble import EnsembleDecoder
from autocaption.search.beam import BeamSearch
from autocaption.search.greedy import GreedySearch
from autocaption.search.sampling import Sampling

FILES = {
    file.stem: file for file in sorted((Path(__file__).parents[2] / "conf/model/decoder").glob("*.yaml"))
}
SMALL = {"embed_dim": 8, "hidden_dim": 8, "attention_dim": 8, "width": 8, "heads": 2, "layers": 1}
SMALL |= LANGUAGE_MODEL
P, D = 3, 4
MODELS = [*FILES, "ensemble"]
MEMBERS = [name for name in FILES if has_extra(name)]


def make(name, seed):
    if name == "ensemble":
        return EnsembleDecoder([make(member, seed + i) for i, member in enumerate(MEMBERS)]).eval()
    require_extra(name)
    config = OmegaConf.load(FILES[name])
    config.update({key: value for key, value in SMALL.items() if key in config})
    torch.manual_seed(seed)
    decoder = instantiate(config, vocab_size=V, memory_dim=D).eval()
    with torch.no_grad():  # else all captions are about equally likely
        for parameter in decoder.parameters():
            parameter *= 2
    return decoder


def memories(seed, images):
    return torch.randn(images, P, D, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def everything(decoder, memory_PD, max_length, penalty=0.0, min_length=0, ngram=0):
    """{tokens: score} of all captions that the constraints allow, scored by the training pass."""
    found = {}
    sequences = [list(words) for words in product(WORDS, repeat=max_length)]
    inputs_BNT = torch.tensor([[[BOS, *words] for words in sequences]])
    logp_NTV = decoder.head(decoder(memory_PD[None], inputs_BNT).hidden_BNTD[0]).double()
    logp_NTV = logp_NTV.log_softmax(-1)
    for words, logp_TV in zip(sequences, logp_NTV.tolist(), strict=True):
        total = 0.0
        for time in range(max_length + 1):
            grams = [tuple(words[i : i + ngram]) for i in range(time - ngram + 1)] if ngram else []
            if len(set(grams)) < len(grams):
                break
            if time == max_length:
                found[tuple(words)] = total / max_length**penalty
                break
            if time >= min_length:
                found[(*words[:time], EOS)] = (total + logp_TV[time][EOS]) / (time + 1) ** penalty
            total += logp_TV[time][words[time]]
    return found


CONSTRAINTS = {
    "penalty": st.sampled_from([0.0, 1.0]),
    "min_length": st.integers(0, 4),
    "ngram": st.integers(0, 3),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), **CONSTRAINTS)
def test_wide_beam_equals_brute_force(name, seed, penalty, min_length, ngram):
    decoder, memory_BPD = make(name, seed), memories(seed, 2)
    constraints = {"min_length": min_length, "no_repeat_ngram": ngram}
    captions = BeamSearch(100, penalty, 4, **constraints)(decoder, memory_BPD)
    for image, memory_PD in enumerate(memory_BPD):
        truth = everything(decoder, memory_PD, 4, penalty, min_length, ngram)
        found = generated(captions, image)
        assert len(found) == min(100, len(truth))
        assert [s for _, s in found] == pytest.approx(sorted(truth.values(), reverse=True)[:100], abs=1e-4)
        assert [s for _, s in found] == pytest.approx([truth[t] for t, _ in found], abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_beam_of_one_is_greedy_and_a_batch_equals_single_images(name):
    for seed in range(4):
        decoder, memory_BPD = make(name, seed), memories(seed, 9)
        constraints = {"min_length": 2, "no_repeat_ngram": 2}
        one, greedy = BeamSearch(1, 0.0, 7, **constraints), GreedySearch(7, **constraints)
        for search in (greedy, one, BeamSearch(3, 0.5, 7)):
            captions = search(decoder, memory_BPD)
            for image in range(9):
                alone = generated(search(decoder, memory_BPD[image : image + 1]), 0)
                assert [t for t, _ in generated(captions, image)] == [t for t, _ in alone]
        found, expected = one(decoder, memory_BPD), greedy(decoder, memory_BPD)
        assert torch.equal(found.tokens_BKT, expected.tokens_BKT)


@torch.no_grad()
def test_ensemble_averages_probabilities():
    members, memory_BPD = [make(name, 3) for name in MEMBERS], memories(3, 2)
    tokens_BNT = torch.tensor([[[BOS, 4, 5]], [[BOS, 6, 6]]])
    each = [d.head(d(memory_BPD, tokens_BNT).hidden_BNTD).softmax(-1) for d in members]
    together = EnsembleDecoder(members)
    found = together.head(together(memory_BPD, tokens_BNT).hidden_BNTD).exp()
    torch.testing.assert_close(found, torch.stack(each).mean(0))
    # Also if each member has its own memory.
    own = tuple(memory_BPD[:, : 1 + i % 2] * i for i, _ in enumerate(members, 1))
    each = [d.head(d(m, tokens_BNT).hidden_BNTD).softmax(-1) for d, m in zip(members, own, strict=True)]
    found = together.head(together(own, tokens_BNT).hidden_BNTD).exp()
    torch.testing.assert_close(found, torch.stack(each).mean(0))
    assert BeamSearch(2, 0.0, 4)(together, own).scores_BK.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_sample_frequencies_equal_probabilities(name):
    decoder, memory_BPD = make(name, 1), memories(1, 1)
    with torch.no_grad():
        logits = decoder.head(decoder(memory_BPD, torch.tensor([[[BOS]]])).hidden_BNTD)[0, 0, 0]
    shares = logits[[EOS, *WORDS]].double().softmax(-1).tolist()
    search = Sampling(4000, 0, temperature=1.0, top_k=0, top_p=1.0, max_length=2)
    found = generated(search(decoder, memory_BPD), 0)
    first = [sum(tokens[0] == word for tokens, _ in found) / len(found) for word in (EOS, *WORDS)]
    assert first == pytest.approx(shares, abs=0.03)
    truth = everything(decoder, memory_BPD[0], 2)
    assert [score for _, score in found] == pytest.approx([truth[tokens] for tokens, _ in found], abs=1e-4)
