"""A training step of every decoder in conf/ against the time that its own matrix products take alone.

The limit of a step is the time of its products in fp32 at the machine's own speed; what is above it is all
that is no product. Products are noted while a step runs, so that no decoder's arithmetic stands here again.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode

from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.token_table import TokenTable
from autocaption.data.tokenizer import WordTokenizer, words
from autocaption.models.losses import CrossEntropy
from benchmarks.generated import FEATURE_DIM, Generated, vocabulary

# Without the language models, whose weights lie elsewhere.
DECODERS = sorted(
    file
    for file in (Path(__file__).parents[1] / "conf/model/decoder").glob("*.yaml")
    if file.stem != "language_model"
)
Product = tuple[int, int, int, int]  # (b, m, k, n): b times m x k times k x n


class Products(TorchDispatchMode):
    """Notes the matrix products of what runs within, attention's and gradients' included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note its products."""
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            a, b = args[-2:] if name in ("mm", "bmm") else args[1:3]
            batch = len(a) if a.dim() == 3 else 1
            self.found.append((batch, a.shape[-2], a.shape[-1], b.shape[-1]))
        elif name.startswith("_scaled_dot_product"):
            backward = name.endswith("backward")
            query, key = args[backward : backward + 2]
            (B, H, S, E), P = query.shape, key.shape[2]
            self.found += [(B * H, S, E, P), (B * H, S, P, E)] * (2 if backward else 1)
        return func(*args, **kwargs or {})


def measure(*, images: int = 32, places: int = 49, rounds: int = 7, **sizes: int) -> dict[str, float]:
    split = Generated(10 * images, 1, 1, 5).split("train")[:images]
    tokenizer = WordTokenizer(words, 1, 20, vocabulary())
    tokens_BNT, lengths_BN = TokenTable([image.captions for image in split], tokenizer).gather(range(images))
    layout = Layout.of_lengths(np.maximum(lengths_BN - 1, 0), tokens_BNT.shape[2] - 1)
    batch = Batch(tuple(image.id for image in split), (), tokens_BNT, layout)
    memory_BPD = torch.randn(images, places, FEATURE_DIM)
    metrics = {}
    for file in DECODERS:
        config = OmegaConf.load(file)
        config.update({name: size for name, size in sizes.items() if name in config})
        torch.manual_seed(0)
        decoder = instantiate(config, vocab_size=len(vocabulary()), memory_dim=FEATURE_DIM)
        step = _step_of(decoder, memory_BPD, batch)
        with Products() as products:
            step()
        alone = repeated(products.found)
        whole, limit = medians((step, alone), rounds)
        metrics[f"{file.stem}: captions/s"] = int((lengths_BN > 0).sum()) / whole
        metrics[f"{file.stem}: of the arithmetic limit"] = limit / whole
    return metrics


def _step_of(decoder: Any, memory_BPD: torch.Tensor, batch: Batch) -> Callable[[], None]:
    loss, optimizer = CrossEntropy(0.1), torch.optim.AdamW(decoder.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(decoder, memory_BPD, batch).total().backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
        optimizer.step()

    return step


def repeated(found: list[Product], dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Repeats the products; operands are allocated once, those of equal shape together."""
    operands = {
        (b, m, k, n): (
            *(torch.randn(b, m, k, dtype=dtype), torch.randn(b, k, n, dtype=dtype)),
            torch.empty(b, m, n, dtype=dtype),
        )
        for b, m, k, n in set(found)
    }

    def alone() -> None:
        for product in found:
            x, y, out = operands[product]
            if len(x) == 1:
                torch.mm(x[0], y[0], out=out[0])
            else:
                torch.bmm(x, y, out=out)

    return alone


def in_bf16(task: Callable[[], Any]) -> Callable[[], Any]:
    """The task under autocast."""

    def within() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return task()

    return within


def medians(tasks: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of each task; they take turns, and so run on the same machine."""
    times = [[seconds(task) for task in tasks] for _ in range(rounds)]
    return [statistics.median(own) for own in zip(*times, strict=True)]


def seconds(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(measure())
