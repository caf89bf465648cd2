"""Where a decoder looked for each word, small enough for a thousand images on a page.

Legend: T tokens, W words, P places.
"""

import json
import math
import string
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from autocaption.data.tokenizer import Tokenizer
from autocaption.files import write_text

DIGITS = np.array(list(string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"))
FINEST = 10  # places a side; finer maps are averaged, as a picture of them would be blurred anyway


@dataclass(frozen=True)
class HeatMaps:
    """Maps of one caption's words.

    Attributes:
        side: each map is side x side.
        digits: all maps, word by word and row by row: one of the 64 DIGITS a place, from A (none) to
            _ (the word's largest weight).
    """

    side: int
    digits: str


def grid_side(encoder: Any, places: int) -> int | None:
    """How many places a side of an encoder's grid has; None where its places are no square grid."""
    side = math.isqrt(places)
    if side < 2 or side * side != places or getattr(encoder, "along", None) == "places":
        return None  # the grids of several encoders, one after the other, may have a square number of places
    return side


def by_word(
    weights_TP: np.ndarray, tokens: Sequence[int], tokenizer: Tokenizer
) -> tuple[list[str], np.ndarray]:
    """The words of a caption, and the weights_WP of each: the mean over its tokens, which subwords are.

    Args:
        weights_TP: attention weights of the step that said each token.
        tokens: of the caption, without <bos> and <eos>.
        tokenizer: says which tokens are a word.
    """
    words = tokenizer.decode(tokens).split()
    counts = [len(tokenizer.decode(tokens[:end]).split()) for end in range(1, len(tokens) + 1)]
    starts = [bisect_left(counts, nth) for nth in range(1, len(words) + 1)]
    means = [weights_TP[start:end].mean(0) for start, end in pairwise([*starts, len(tokens)])]
    return words, np.array(means, weights_TP.dtype).reshape(-1, weights_TP.shape[1])


def heat_maps(weights_WP: np.ndarray) -> HeatMaps:
    """Maps from attention weights on a square grid, a row a word."""
    side = math.isqrt(weights_WP.shape[1])
    maps = weights_WP.reshape(len(weights_WP), side, side).astype(np.float64)
    if side > FINEST:
        maps, side = _averaged(maps, -(-side // FINEST))
    largest = maps.max((1, 2), keepdims=True)
    levels = np.rint(63 * maps / np.where(largest > 0, largest, 1)).astype(int)
    return HeatMaps(side, "".join(DIGITS[levels].ravel()))


def _averaged(maps: np.ndarray, by: int) -> tuple[np.ndarray, int]:
    """Means of by x by places; those of the last row and column may cover fewer."""
    starts = np.arange(0, maps.shape[1], by)
    sums = np.add.reduceat(np.add.reduceat(maps, starts, 1), starts, 2)
    lengths = np.diff([*starts, maps.shape[1]])
    return sums / np.outer(lengths, lengths), len(starts)


def write_heat_maps(file: Path, maps: Mapping[str, HeatMaps]) -> None:
    """Write {image id: its maps} as JSON, an image a line."""
    lines = [f"{json.dumps(id, ensure_ascii=False)}: {json.dumps(asdict(one))}" for id, one in maps.items()]
    write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")


def read_heat_maps(file: Path) -> dict[str, HeatMaps]:
    """{image id: its maps}; empty where there is no such file."""
    if not file.is_file():
        return {}
    return {id: HeatMaps(**one) for id, one in json.loads(file.read_text(encoding="utf-8")).items()}
