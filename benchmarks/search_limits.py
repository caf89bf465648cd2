"""Beam search with every decoder of conf/ against the time that its own matrix products take alone.

The limit of a search is the time of its products in fp32 at the machine's own speed; what is above it is all
that is no product. What bf16 gains a search stands beside what it gains those products.
"""

from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from autocaption.search.beam import BeamSearch
from benchmarks.generated import FEATURE_DIM, vocabulary
from benchmarks.limits import DECODERS, Products, in_bf16, medians, repeated
from benchmarks.transformer_beam import Brief


def measure(
    *, images: int = 64, beam: int = 5, length: int = 20, places: int = 49, rounds: int = 7, **sizes: int
) -> dict[str, float]:
    search, memory_BPD = BeamSearch(beam, 0.0, length), torch.randn(images, places, FEATURE_DIM).relu()
    metrics: dict[str, float] = {}
    for file in DECODERS:
        config = OmegaConf.load(file)
        config.update({name: size for name, size in sizes.items() if name in config})
        torch.manual_seed(0)
        brief: Any = Brief(instantiate(config, vocab_size=len(vocabulary()), memory_dim=FEATURE_DIM).eval())

        def find(brief: Any = brief) -> None:
            search(brief, memory_BPD)

        with Products() as products:
            find()
        alone, alone_bf16 = (repeated(products.found, dtype) for dtype in (torch.float32, torch.bfloat16))
        whole, limit, whole_bf16, limit_bf16 = medians((find, alone, in_bf16(find), alone_bf16), rounds)
        metrics |= {
            f"{file.stem}: captions/s": images / whole,
            f"{file.stem}: of the arithmetic limit": limit / whole,
            f"{file.stem}: times in bf16": whole / whole_bf16,
            f"{file.stem}: times of its products in bf16": limit / limit_bf16,
        }
    return metrics


if __name__ == "__main__":
    print(measure())
