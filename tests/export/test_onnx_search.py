"""The runner's beam search on NumPy arrays, against the project's own, with the decoders of conf/ in torch.

Legend: P places, D width.
"""

from types import SimpleNamespace

import pytest
import torch
from helpers import CONF
from helpers.decoders import LANGUAGE_MODEL, require_extra
from helpers.markov import WORDS, V
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.utils._pytree import tree_flatten

from autocaption.data.tokenizer import EOS
from autocaption.search.beam import BeamSearch

pytest.importorskip("onnxruntime")

from autocaption.export import graphs
from autocaption.export.onnx_caption import OnnxCaptioner

FILES = {file.stem: file for file in sorted((CONF / "model/decoder").glob("*.yaml")) if file.stem != "base"}
SMALL = {"embed_dim": 8, "hidden_dim": 8, "attention_dim": 8, "width": 8, "heads": 2, "layers": 1}
SMALL |= LANGUAGE_MODEL
P, D = 3, 4


class InTorch:
    """What the runner needs of an ONNX session, by a module."""

    def __init__(self, module, outputs):
        self.module, self.outputs = module, outputs

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in self.outputs]

    @torch.no_grad()
    def run(self, _, given):
        first, *state = (torch.as_tensor(value) for value in given.values())
        found = self.module(first, tuple(state)) if state else self.module(first)
        return [tensor.numpy() for tensor in found]


def runner(decoder, memory_1PD, **search):
    state = decoder.init_state(memory_1PD)
    leaves, spec = tree_flatten(tuple(state))
    names = graphs.state_names(state)
    captioner = OnnxCaptioner.__new__(OnnxCaptioner)
    captioner.config = {"search": search}
    captioner.start = InTorch(graphs.Start(decoder), names)
    every = range(len(leaves))
    captioner.step = InTorch(graphs.Step(decoder, spec, every), ["logits", *(f"{n}_after" for n in names)])
    return captioner


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=6)
@given(
    seed=st.integers(0, 10**6),
    beams=st.integers(1, 5),
    penalty=st.sampled_from([0.0, 0.7]),
    min_length=st.integers(0, 3),
    ngram=st.integers(0, 2),
    allow_unk=st.booleans(),
)
def test_it_finds_what_beam_search_finds(name, seed, beams, penalty, min_length, ngram, allow_unk):
    require_extra(name)
    config = OmegaConf.load(FILES[name])
    config.update({key: value for key, value in SMALL.items() if key in config})
    torch.manual_seed(seed)
    decoder = instantiate(config, vocab_size=V, memory_dim=D).eval()
    memory_1PD = torch.randn(1, P, D)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter *= 2
    constraints = {"min_length": min_length, "no_repeat_ngram": ngram, "allow_unk": allow_unk}
    expected = BeamSearch(beams, penalty, 4, **constraints)(decoder, memory_1PD)
    found = runner(decoder, memory_1PD, **constraints).beams(memory_1PD.numpy(), beams, penalty, 4)
    kept = [
        (score, tokens)
        for score, tokens in zip(expected.scores_BK[0].tolist(), expected.tokens_BKT[0].tolist(), strict=True)
        if score > float("-inf")
    ]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in kept], abs=1e-4)
    ended = [(tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens) for _, tokens in kept]
    assert [tokens for _, tokens in found] == ended


def test_where_no_caption_may_end_it_gives_one_all_the_same():
    config = OmegaConf.load(FILES["lstm"])
    config.update({key: value for key, value in SMALL.items() if key in config})
    decoder, memory_1PD = instantiate(config, vocab_size=V, memory_dim=D).eval(), torch.randn(1, P, D)
    constraints = {"min_length": V, "no_repeat_ngram": 1, "allow_unk": False}
    expected = BeamSearch(2, 0.0, V, **constraints)(decoder, memory_1PD)
    ((score, tokens),) = runner(decoder, memory_1PD, **constraints).beams(memory_1PD.numpy(), 2, 0.0, V)
    assert score == expected.scores_BK[0, 0] == float("-inf")
    assert {*tokens} >= {*WORDS}
