"""The transformer's beam search with caches against recomputing the prefix; the captions must agree.

Legend: B images, K beams, R rows (B x K), T time, P places, D width, V vocabulary.
"""

import time
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from autocaption.data.tokenizer import EOS
from autocaption.models.protocols import State
from autocaption.search.beam import BeamSearch
from benchmarks.generated import FEATURE_DIM, vocabulary

CONFIG = Path(__file__).parents[1] / "conf/model/decoder/transformer.yaml"


class Recomputing:
    """A decoder whose state is the tokens generated so far: each step decodes them all again."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def init_state(self, memory_BPD: Tensor) -> State:
        nothing_RT = torch.zeros(len(memory_BPD), 0, dtype=torch.long, device=memory_BPD.device)
        return State(nothing_RT, memory_BPD)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        generated_RT = torch.cat([state.rows, tokens_R.unsqueeze(1)], 1)
        generated_BKT = generated_RT.unflatten(0, (len(state.images), -1))
        hidden_RD = self.decoder(state.images, generated_BKT).hidden_BNTD[:, :, -1].flatten(0, 1)
        return self.decoder.head(hidden_RD), State(generated_RT, state.images)


class Brief:
    """Gives a decoder of random weights captions of a usual length: each word makes <eos> likelier."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def init_state(self, memory_BPD: Tensor) -> State:
        rows, images = self.decoder.init_state(memory_BPD)
        return State((rows, torch.zeros(len(memory_BPD), device=memory_BPD.device)), images)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        rows, words_R = state.rows
        logits_RV, after = self.decoder.step(tokens_R, State(rows, state.images))
        logits_RV[:, EOS] += 1.5 * (words_R - 5)
        return logits_RV, State((after.rows, words_R + 1), after.images)


def decoder(**changes: int) -> Any:
    """The decoder of model=transformer with random weights."""
    torch.manual_seed(0)
    sizes = {"vocab_size": len(vocabulary()), "memory_dim": FEATURE_DIM, **changes}
    return instantiate(OmegaConf.load(CONFIG), **sizes).eval()


def measure(
    *,
    images: int = 64,
    few: int = 32,  # the default batch
    beam: int = 5,
    length: int = 20,
    places: int = 49,
    rounds: int = 3,
    **changes: int,
) -> dict[str, float]:
    net = decoder(**changes)
    search, memory_BPD = BeamSearch(beam, 0.0, length), torch.randn(images, places, FEATURE_DIM).relu()
    warm: Any = Brief(net)
    search(warm, memory_BPD[:2])
    fast, slow, words = _compared(net, search, memory_BPD, rounds)
    fast_few, slow_few, _ = _compared(net, search, memory_BPD[:few], rounds)
    return {
        "captions/s with caches": images / fast,
        "captions/s recomputing": images / slow,
        "times recomputing": slow / fast,
        "times recomputing at the default batch": slow_few / fast_few,
        "words a caption": words,
    }


def _compared(net: Any, search: BeamSearch, memory_BPD: Tensor, rounds: int) -> tuple[float, float, float]:
    """Seconds of a search with caches and of one that recomputes, and the words of a caption."""
    brief: list[Any] = [Brief(net), Brief(Recomputing(net))]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        found = []
        for one, times in zip(brief, seconds, strict=True):
            start = time.perf_counter()
            found.append(search(one, memory_BPD))
            times.append(time.perf_counter() - start)
        assert torch.equal(found[0].tokens_BKT, found[1].tokens_BKT)
        torch.testing.assert_close(found[0].scores_BK, found[1].scores_BK, atol=1e-3, rtol=0)
    fast, slow = (min(times) for times in seconds)
    return fast, slow, (found[0].tokens_BKT[:, 0] > EOS).sum(1).float().mean().item()


if __name__ == "__main__":
    print(measure())
