"""Where a decoder looks in a picture for each word of a caption.

Legend: B captions, P places, D width, T time, W words.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, PAD, Tokenizer
from autocaption.data.transforms import Box
from autocaption.errors import UserError
from autocaption.models.protocols import Attentive


@dataclass(frozen=True)
class WordMaps:
    """Where a decoder looked for each word of a caption.

    Attributes:
        words: the words.
        maps: float32 (words, side, side); the weights of each word's map sum to 1. Row 0 is the top.
        seen: the part of the upright picture that a map covers, as shares of its width and height: left,
            top, right, bottom.
    """

    words: list[str]
    maps: np.ndarray
    seen: Box


def word_maps(
    encoder: Any,
    decoder: Any,
    memory_1PD: Tensor,
    said: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    seen: Box,
) -> list[WordMaps]:
    """Ask a decoder about captions of one picture.

    Args:
        encoder: says whether the places are a grid.
        decoder: the decoder.
        memory_1PD: the picture's memory.
        said: the tokens of each caption, without <bos> and <eos>.
        tokenizer: says which tokens are a word.
        seen: the part of the picture that the encoder was shown.

    Raises:
        UserError: the decoder doesn't attend, or not to a square grid.
    """
    if not isinstance(decoder, Attentive):
        raise UserError(
            f"{type(decoder).__name__} doesn't attend to places of the picture; train with "
            "model=show_attend_tell, updown, transformer or m2"
        )
    side = grid_side(encoder)
    if side is None:
        P = memory_1PD.shape[1]
        raise UserError(
            f"the encoder gives {P} place{'s' * (P > 1)}, which is no square grid to attend to; train with "
            "one encoder and model.encoder.pooling=grid"
        )
    if not said:
        return []
    memory_BPD = memory_1PD.expand(len(said), -1, -1)
    return [
        WordMaps(words, weights_WP.reshape(-1, side, side), seen)
        for words, weights_WP in word_weights(decoder, memory_BPD, said, tokenizer)
    ]


def grid_side(encoder: Any) -> int | None:
    """The places of a side of an encoder's grid; None where there is none that is worth a look."""
    side = getattr(encoder, "grid_side", None)
    return side if side and side > 1 else None


def word_weights(
    decoder: Attentive, memory_BPD: Tensor, said: Sequence[Sequence[int]], tokenizer: Tokenizer
) -> list[tuple[list[str], np.ndarray]]:
    """The words of captions, and how much a decoder looked at each place for each of them.

    Args:
        decoder: the decoder.
        memory_BPD: the memory of each caption's picture.
        said: the tokens of each caption, without <bos> and <eos>.
        tokenizer: says which tokens are a word.

    Returns:
        (words, float32 weights_WP) of each caption; those of a word are the mean of its tokens'.
    """
    weight = next(decoder.parameters())  # type: ignore[attr-defined]
    inputs = [[BOS, *tokens[:-1]] for tokens in said]
    longest = max(map(len, inputs))
    tokens_BT = torch.tensor(
        [[*tokens, *[PAD] * (longest - len(tokens))] for tokens in inputs], device=weight.device
    )
    weights_BTP = decoder.attention(memory_BPD.to(weight.dtype), tokens_BT).float().cpu().numpy()
    found = []
    for tokens, weights_TP in zip(said, weights_BTP, strict=True):
        words, starts = _words(tokenizer, tokens)
        ends = [*starts, len(tokens)][1:]
        # A token that holds several words is that of each.
        spans = [weights_TP[start : max(end, start + 1)] for start, end in zip(starts, ends, strict=True)]
        means = [span_TP.mean(0) for span_TP in spans]
        found.append((words, np.array(means, np.float32).reshape(len(words), weights_TP.shape[1])))
    return found


def _words(tokenizer: Tokenizer, tokens: Sequence[int]) -> tuple[list[str], list[int]]:
    """The words of a caption, and which of its tokens each of them starts with."""
    counts = [len(tokenizer.decode(tokens[:end]).split()) for end in range(1, len(tokens) + 1)]
    words = tokenizer.decode(tokens).split()
    return words, [bisect_left(counts, nth) for nth in range(1, len(words) + 1)]
