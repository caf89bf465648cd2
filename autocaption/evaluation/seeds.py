"""Several seeds of one experiment: their run folders, and what their metrics have in common."""

import math
import statistics
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autocaption.errors import UserError
from autocaption.runs.folder import is_run_folder
from autocaption.runs.record import FINISHED, read, state_of

BEST = "checkpoints/best.ckpt"


class Mean(NamedTuple):
    """A metric over seeds.

    Attributes:
        mean: of the runs.
        std: their sample standard deviation.
        low: lower end of the interval of the mean, by Student's t.
        high: upper end.
    """

    mean: float
    std: float
    low: float
    high: float


def mean_of(values: Sequence[float], level: float = 0.95) -> Mean:
    """The mean of at least two runs.

    The interval tells how far another set of seeds may lie, on the same images; a bootstrap tells that of
    other images.
    """
    mean, std = statistics.fmean(values), statistics.stdev(values)
    half = student_t(len(values) - 1, level) * std / math.sqrt(len(values))
    return Mean(mean, std, mean - half, mean + half)


def student_t(degrees: int, level: float) -> float:
    """Between minus and plus how much a t-distributed variable lies with this probability.

    With t = sqrt(degrees) tan(u) the density becomes a power of cos(u), which a sum integrates.
    """
    angle = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angle) ** (degrees - 1)
    share = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(math.sqrt(degrees) * np.tan(np.interp(level, share / share[-1], angle)))


def best_checkpoints(key: str, patterns: Sequence[str]) -> list[Path]:
    """The best checkpoint of each training run that the patterns match.

    Args:
        key: what an error calls them.
        patterns: globs of run folders, or of folders of run folders, such as those of a multirun.

    Raises:
        UserError: there are fewer than two runs, or one has not finished.
    """
    folders = list(dict.fromkeys(folder for pattern in patterns for folder in _run_folders(pattern)))
    said = ", ".join(patterns) or "[]"
    for folder in folders:
        record = read(folder)
        if record is not None and record["task"] == "eval":
            raise UserError(f"{key}={said}: {folder} is an evaluation; name the folders of trainings")
        if (state := state_of(folder)) != FINISHED:
            raise UserError(
                f"{key}={said}: {folder} is {state}; a mean without it would not be that of all seeds; "
                f"resume it with train.py resume={folder}, or name all others"
            )
        if not (folder / BEST).is_file():
            raise UserError(f"{key}={said}: {folder} has no {BEST}")
    if len(folders) < 2:
        raise UserError(f"{key}={said}: {len(folders)} run folders match; a mean needs at least two")
    return [folder / BEST for folder in folders]


def _run_folders(pattern: str) -> Iterator[Path]:
    """The run folders that a glob matches, and those within the other folders that it matches."""
    for match in sorted(glob(pattern), key=_numbered):
        folder = Path(match)
        if folder.is_dir() and is_run_folder(folder):
            yield folder
        elif folder.is_dir():
            yield from (one for one in sorted(folder.iterdir(), key=_numbered) if is_run_folder(one))


def _numbered(path: str | Path) -> tuple[int, str]:
    """Sorts job 2 before job 10."""
    name = Path(path).name
    return (int(name) if name.isdecimal() else -1), str(path)
