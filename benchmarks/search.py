"""Beam search over whole batches against one image at a time; the captions must agree.

Legend: B images, K beams, T time, P places, D width.
"""

import time

import torch

from autocaption.data.tokenizer import EOS, PAD
from autocaption.models.decoders.lstm import LSTMDecoder
from autocaption.search.beam import BeamSearch
from benchmarks.generated import FEATURE_DIM, vocabulary
from benchmarks.list_beam import list_beam

ROUNDS = 3


def decoder(dim: int) -> LSTMDecoder:
    """Show and Tell with random weights, scaled to be as confident and brief as a trained model."""
    torch.manual_seed(0)
    made = LSTMDecoder(len(vocabulary()), FEATURE_DIM, dim, dim, 1, 0.0, 0.01).eval()
    with torch.no_grad():
        made.output.weight *= 60
        made.output.bias[EOS] += 10
    return made


def measure(
    *,
    images: int = 256,
    batch: int = 64,
    alone: int = 16,  # images a round for the slow search
    beam: int = 5,
    length: int = 20,
    dim: int = 512,
) -> dict[str, float]:
    net, search = decoder(dim), BeamSearch(beam, 0.0, length)
    memory_BPD = torch.randn(images, 1, FEATURE_DIM)
    search(net, memory_BPD[:batch])
    ours, lists = [], []
    for round in range(ROUNDS):
        start = time.perf_counter()
        found = [search(net, chunk_BPD) for chunk_BPD in memory_BPD.split(batch)]
        ours.append((time.perf_counter() - start) / images)
        start = time.perf_counter()
        rows = range(round * alone, (round + 1) * alone)
        expected = [list_beam(net, memory_BPD[row : row + 1], beam, length) for row in rows]
        lists.append((time.perf_counter() - start) / alone)
        tokens_BKT = torch.cat([captions.tokens_BKT for captions in found])
        for row, captions in zip(rows, expected, strict=True):
            generated = [[token for token in tokens if token != PAD] for tokens in tokens_BKT[row].tolist()]
            assert generated == [tokens for _, tokens in captions]
    words = (tokens_BKT[:, 0] > EOS).sum(-1).float().mean().item()
    fast, slow = sorted(ours)[1], sorted(lists)[1]
    return {
        "captions/s": 1 / fast,
        "captions/s, image by image": 1 / slow,
        "times image by image": slow / fast,
        "words a caption": words,
    }


if __name__ == "__main__":
    print(measure())
