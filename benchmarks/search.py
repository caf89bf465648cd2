"""Beam search over whole batches against one image at a time, with equal captions asserted."""

import time

import torch

from autocaption.data.tokenizer import EOS, PAD
from autocaption.models.decoders.lstm import LSTMDecoder
from autocaption.search.beam import BeamSearch
from benchmarks.generated import FEATURE_DIM, vocabulary
from benchmarks.list_beam import list_beam

IMAGES, BEAM, LENGTH = 256, 5, 20
ALONE = 16  # of the images, for the slow one


def decoder() -> LSTMDecoder:
    """Show and Tell with random weights, as sure of its words as a trained one, and as brief."""
    torch.manual_seed(0)
    made = LSTMDecoder(len(vocabulary()), FEATURE_DIM, 512, 512, 1, 0.0, 0.01).eval()
    with torch.no_grad():
        made.output.weight *= 60
        made.output.bias[EOS] += 10
    return made


def measure() -> dict[str, float]:
    net, search = decoder(), BeamSearch(BEAM, 0.0, LENGTH)
    memory_BPD = torch.randn(IMAGES, 1, FEATURE_DIM)
    search(net, memory_BPD[:64])
    ours, lists = [], []
    for round in range(3):
        start = time.perf_counter()
        found = [search(net, chunk_BPD) for chunk_BPD in memory_BPD.split(64)]
        ours.append((time.perf_counter() - start) / IMAGES)
        start = time.perf_counter()
        rows = range(round * ALONE, (round + 1) * ALONE)
        alone = [list_beam(net, memory_BPD[row : row + 1], BEAM, LENGTH) for row in rows]
        lists.append((time.perf_counter() - start) / ALONE)
        tokens_BKT = torch.cat([captions.tokens_BKT for captions in found])
        for row, captions in zip(rows, alone, strict=True):
            said = [[token for token in tokens if token != PAD] for tokens in tokens_BKT[row].tolist()]
            assert said == [tokens for _, tokens in captions]
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
