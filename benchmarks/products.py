"""The matrix products of a training step, and the time they take with nothing around them."""

import time
from collections.abc import Sequence

import torch

Shape = tuple[int, int, int]  # (m, k, n): m x k times k x n


def show_and_tell(rows_T: Sequence[int], images: int, features: int, dim: int, vocab: int) -> list[Shape]:
    """Every product of a one-layer LSTM decoder's training step, forward and backward.

    Args:
        rows_T: captions that have a token at each time step.
        images: images in the batch.
        features: width of an image's features.
        dim: width of embeddings and hidden state.
        vocab: words in the vocabulary.
    """
    tokens, gates = sum(rows_T), 4 * dim
    forward = [(images, features, dim), (images, dim, gates), (tokens, dim, gates), (tokens, dim, vocab)]
    forward += [(rows, dim, gates) for rows in rows_T]
    weights = [(features, images, dim), (gates, tokens, dim), (gates, tokens, dim), (vocab, tokens, dim)]
    inputs = [(tokens, gates, dim), (tokens, vocab, dim), (images, gates, dim)]
    inputs += [(rows, gates, dim) for rows in rows_T]
    return forward + weights + inputs


def flops(shapes: Sequence[Shape]) -> int:
    """Multiplications and additions."""
    return sum(2 * m * k * n for m, k, n in shapes)


def seconds(shapes: Sequence[Shape]) -> float:
    """Seconds for all of these products in fp32, with operands and results allocated beforehand."""
    operands = [(torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in shapes]
    for a, b, out in operands:
        torch.mm(a, b, out=out)
    start = time.perf_counter()
    for a, b, out in operands:
        torch.mm(a, b, out=out)
    return time.perf_counter() - start
