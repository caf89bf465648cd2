"""Where a decoder looked for each word, small enough for a thousand images on a page.

Legend: T words, P places.
"""

import json
import math
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

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


def heat_maps(weights_TP: np.ndarray) -> HeatMaps | None:
    """Maps from attention weights; None where the places are no square grid, or one place."""
    side = math.isqrt(weights_TP.shape[1])
    if side * side != weights_TP.shape[1] or side < 2:
        return None
    maps = weights_TP.reshape(len(weights_TP), side, side).astype(np.float64)
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
