"""What a run folder keeps of a test's scores, beside the scores themselves."""

import csv
import io
import math
from pathlib import Path

from autocaption.files import write_text
from autocaption.metrics.bootstrap import intervals
from autocaption.metrics.scored import Scored


def intervals_of(scored: Scored, split: str) -> dict[str, list[float]]:
    """{key: [low, high]}, 95 % bootstrap intervals by the keys of metrics.json."""
    return {f"{split}/{name}": [found.low, found.high] for name, found in intervals(scored).items()}


def write_per_image(file: Path, scored: Scored) -> None:
    """Write a CSV with a row an image and a column a metric; empty where there was nothing to score."""
    scores = scored.per_image()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_id", *scores])
    for id, *values in zip(scored.ids, *scores.values(), strict=True):
        table.writerow([id, *("" if math.isnan(value) else float(value) for value in values)])
    write_text(file, text.getvalue())
