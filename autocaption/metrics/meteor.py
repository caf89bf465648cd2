"""METEOR, by its own jar.

Legend: I images, S statistics, M matchers (exact word, stem, synonym, paraphrase).
"""

import functools
import subprocess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autocaption.errors import UserError
from autocaption.metrics import java
from autocaption.metrics.corpus import Corpus
from autocaption.metrics.ngrams import Words
from autocaption.metrics.scored import ratio

# METEOR 1.5's parameters for English (Denkowski & Lavie 2014, table 2).
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])
OPTIONS = ["-stdio", "-l", "en", "-norm"]
CHUNKS, CAPTION_MATCHES, REFERENCE_MATCHES = 20, 21, 22  # columns of the statistics
COLUMNS = 23


def meteor() -> "Meteor | None":
    """METEOR, or None and a line in the log where Java or the jar is missing."""
    if reason := java.missing(java.METEOR):
        java.say_left_out("METEOR", reason)
        return None
    return Meteor()


class Meteor:
    """METEOR 1.5 (Denkowski & Lavie 2014) as coco-caption runs it.

    The jar aligns captions with references; it is started once a process. The scores follow here, from its
    statistics, so that there are scores an image and intervals.
    """

    names = ("meteor",)

    def statistics(self, corpus: Corpus) -> NDArray:
        """The jar's statistics of each image against its best reference."""
        rows = [_align(*pair) for pair in zip(corpus.captions, corpus.references, strict=True)]
        found_IS = np.array(rows, np.float64)
        lengths_I2, matches_I2 = found_IS[:, :2], found_IS[:, [CAPTION_MATCHES, REFERENCE_MATCHES]]
        perfect_I = (found_IS[:, CHUNKS] == 1) & (lengths_I2 == matches_I2).all(-1)
        found_IS[perfect_I, CHUNKS] = 0  # no penalty
        return found_IS

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`meteor`, between 0 and 1."""
        length, reference_length, function, reference_function = np.moveaxis(sums[..., :4], -1, 0)
        matches = sums[..., 4:CHUNKS].reshape(*sums.shape[:-1], len(MATCHERS), 4)
        content, reference_content, in_function, reference_in_function = (
            np.moveaxis(matches, -1, 0) @ MATCHERS
        )
        precision = _share(content, in_function, length - function, function)
        recall = _share(
            reference_content,
            reference_in_function,
            reference_length - reference_function,
            reference_function,
        )
        f_score = ratio(precision * recall, (1 - ALPHA) * recall + ALPHA * precision)
        words = (sums[..., CAPTION_MATCHES] + sums[..., REFERENCE_MATCHES]) / 2
        penalty = GAMMA * (sums[..., CHUNKS] / words.clip(min=1e-9)) ** BETA
        return {"meteor": np.nan_to_num(f_score) * (1 - penalty)}


def _share(content: NDArray, function: NDArray, all_content: NDArray, all_function: NDArray) -> NDArray:
    """Matches as a share of words, with content words counting more than function words; 0 of none."""
    matched, words = (
        DELTA * c + (1 - DELTA) * f for c, f in ((content, function), (all_content, all_function))
    )
    return np.nan_to_num(ratio(matched, words))


@functools.cache
def _jar() -> subprocess.Popen:
    """The running jar; it ends with this process, whose end closes its input."""
    return subprocess.Popen(
        [*java.JAVA, "-Xmx2G", "-jar", str(java.jar(java.METEOR)), "-", "-", *OPTIONS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us alone
        encoding="utf-8",
        errors="replace",
    )


def _align(caption: Words, references: list[Words]) -> list[float]:
    texts = [" ".join(words).replace("|||", "") for words in (*references, caption)]
    jar: Any = _jar()
    try:
        print("SCORE", *texts, sep=" ||| ", file=jar.stdin, flush=True)
        statistics_S = [float(number) for number in jar.stdout.readline().split()]
    except (BrokenPipeError, ValueError):
        statistics_S = []
    if len(statistics_S) != COLUMNS:  # none where the jar ended while it was asked
        raise UserError("METEOR's jar has stopped; does it start with 2 GB of memory?")
    return statistics_S
