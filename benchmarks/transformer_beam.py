"""The transformer's beam search with caches against recomputing its prefix, with equal captions asserted."""

import time
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from autocaption.data.tokenizer import EOS
from autocaption.models.protocols import State
from autocaption.search.beam import BeamSearch
from benchmarks.generated import vocabulary

IMAGES, BEAM, LENGTH, PLACES, FEATURE_DIM = 64, 5, 20, 49, 1280
CONFIG = Path(__file__).parents[1] / "conf/model/decoder/transformer.yaml"


class Recomputing:
    """A decoder whose state is the words said so far: each step decodes them all again."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def init_state(self, memory_BPD: Tensor) -> State:
        return State(torch.zeros(len(memory_BPD), 0, dtype=torch.long), memory_BPD)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        said_RT = torch.cat([state.rows, tokens_R.unsqueeze(1)], 1)
        said_BKT = said_RT.unflatten(0, (len(state.images), -1))
        hidden_RD = self.decoder(state.images, said_BKT).hidden_BNTD[:, :, -1].flatten(0, 1)
        return self.decoder.head(hidden_RD), State(said_RT, state.images)


class Brief:
    """A decoder of random weights that ends as a trained one does: hardly before, and soon after 11 words."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def init_state(self, memory_BPD: Tensor) -> State:
        rows, images = self.decoder.init_state(memory_BPD)
        return State((rows, torch.zeros(len(memory_BPD))), images)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        rows, words_R = state.rows
        logits_RV, after = self.decoder.step(tokens_R, State(rows, state.images))
        logits_RV[:, EOS] += 1.5 * (words_R - 5)
        return logits_RV, State((after.rows, words_R + 1), after.images)


def decoder() -> nn.Module:
    """As the transformer's experiment has it, with random weights."""
    torch.manual_seed(0)
    sizes = {"vocab_size": len(vocabulary()), "memory_dim": FEATURE_DIM}
    return instantiate(OmegaConf.load(CONFIG), **sizes).eval()


def measure() -> dict[str, float]:
    net = decoder()
    search, memory_BPD = BeamSearch(BEAM, 0.0, LENGTH), torch.randn(IMAGES, PLACES, FEATURE_DIM).relu()
    search(Brief(net), memory_BPD[:2])  # warm
    seconds: dict[str, list[float]] = {"with caches": [], "recomputing": []}
    for _ in range(3):
        found = []
        for name, one in (("with caches", Brief(net)), ("recomputing", Brief(Recomputing(net)))):
            start = time.perf_counter()
            found.append(search(one, memory_BPD))
            seconds[name].append(time.perf_counter() - start)
        assert torch.equal(found[0].tokens_BKT, found[1].tokens_BKT)
        torch.testing.assert_close(found[0].scores_BK, found[1].scores_BK, atol=1e-3, rtol=0)
    fast, slow = (min(times) for times in seconds.values())
    return {
        "captions/s with caches": IMAGES / fast,
        "captions/s recomputing": IMAGES / slow,
        "times recomputing": slow / fast,
        "words a caption": (found[0].tokens_BKT[:, 0] > EOS).sum(1).float().mean().item(),
    }
