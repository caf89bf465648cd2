"""Where a decoder looks in a picture for each word of a caption.

Legend: B captions, P places, D width, T time, W words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autocaption.data.tokenizer import BOS, PAD, Tokenizer
from autocaption.data.transforms import Box
from autocaption.errors import UserError
from autocaption.models.protocols import Attentive
from autocaption.report.heat_maps import by_word, grid_side


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
    memory_1PD: Any,
    said: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    seen: Box,
) -> list[WordMaps]:
    """Ask a decoder about captions of one picture.

    Args:
        encoder: the encoder, for what its places are.
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
            "model=show_attend_tell or model=transformer"
        )
    P = memory_1PD.shape[1]
    side = grid_side(encoder, P)
    if side is None:
        raise UserError(
            f"the encoder gives {P} place{'s' * (P > 1)}, which {'are' if P > 1 else 'is'} no square grid to "
            "attend to; train with one encoder and model.encoder.pooling=grid"
        )
    if not said:
        return []
    weight = next(decoder.parameters())  # type: ignore[attr-defined]
    longest = max(map(len, said))
    inputs = [[BOS, *tokens, *[PAD] * (longest - len(tokens))] for tokens in said]
    tokens_BT = torch.tensor(inputs, device=weight.device)
    weights_BTP = decoder.attention(memory_1PD.to(weight.dtype).expand(len(said), -1, -1), tokens_BT)
    found = []
    for tokens, weights_TP in zip(said, weights_BTP.float().cpu().numpy(), strict=True):
        words, weights_WP = by_word(weights_TP, tokens, tokenizer)
        found.append(WordMaps(words, weights_WP.reshape(-1, side, side), seen))
    return found
