"""What a report shows of a system, read from the files of its run folder."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autocaption.report.heat_maps import HeatMaps, read_heat_maps

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Sentence:
    """An image's generated caption.

    Attributes:
        caption: the caption.
        scores: {metric: value} of this caption alone.
        heat_maps: where the decoder looked for each word.
    """

    caption: str
    scores: Mapping[str, float] = field(default_factory=dict)
    heat_maps: HeatMaps | None = None


@dataclass(frozen=True)
class System:
    """A model with its search, or whatever else made the captions.

    Attributes:
        name: short, and another for each system of a page.
        split: the split of its captions.
        metrics: {key: value}, such as `test/cider`.
        intervals: {key: (low, high)} of those metrics that have one.
        curves: {key: ((step, value), ...)} of its training.
        sentences: {image id: its caption}.
        facts: {what: text} of how it was made, in the order to show.
    """

    name: str
    split: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    sentences: Mapping[str, Sentence] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def scores(self, metric: str) -> dict[str, float]:
        """{image id: score} by one metric."""
        return {
            id: sentence.scores[metric]
            for id, sentence in self.sentences.items()
            if metric in sentence.scores
        }


def read_system(
    folder: Path, name: str, split: str, training: Path | None = None, run: Path | None = None
) -> System:
    """A system from its files; what a missing file would give is left empty.

    Args:
        folder: holds metrics.json, captions.json, per_image.csv and attention.json.
        name: the system's name.
        split: the split of the captions.
        training: the run folder of the model's training, which holds csv/metrics.csv; None for `folder`.
        run: the run folder that holds provenance.json; None for `folder`.
    """
    figures: dict[str, Any] = _json(folder / "metrics.json") or {}
    return System(
        name=name,
        split=split,
        metrics={key: float(value) for key, value in figures.items() if "/" in key and _is_number(value)},
        intervals={key: (low, high) for key, (low, high) in (figures.get("intervals") or {}).items()},
        curves=_curves((training or folder) / "csv/metrics.csv"),
        sentences=_sentences(folder),
        facts=_facts(run or folder, figures),
    )


def _sentences(folder: Path) -> dict[str, Sentence]:
    scores, maps = _scores(folder / "per_image.csv"), read_heat_maps(folder / "attention.json")
    return {
        id: Sentence(entry["caption"], scores.get(_in_csv(id), {}), maps.get(id))
        for entry in _json(folder / "captions.json") or []
        for id in [str(entry["image_id"])]  # the official tools' ids are integers where they can be
    }


def _in_csv(id: str) -> str:
    """An id as `files.write_text` writes it: half a character escaped, which JSON undoes and CSV doesn't."""
    return id.encode("utf-8", "backslashreplace").decode()


def _scores(file: Path) -> dict[str, dict[str, float]]:
    """{image id: {metric: score}}; the first column holds the ids, columns of text are no scores."""
    if not file.is_file():
        return {}
    with open(file, newline="", encoding="utf-8") as opened:
        _, *names = next(reader := csv.reader(opened))
        return {
            id: {name: float(cell) for name, cell in zip(names, cells, strict=False) if _is_number(cell)}
            for id, *cells in reader
        }


def _curves(file: Path) -> Mapping[str, Curve]:
    if not file.is_file():
        return {}
    curves: dict[str, list[tuple[float, float]]] = {}
    with open(file, newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            step = row.pop("step", None)
            for name, cell in row.items():
                if _is_number(step) and _is_number(cell):
                    curves.setdefault(name, []).append((float(step), float(cell)))
    return curves


def _facts(folder: Path, figures: Mapping[str, Any]) -> dict[str, str]:
    start = (_json(folder / "provenance.json") or [{}])[-1]
    git = start.get("git") or {}
    facts = {
        "epochs": figures.get("epochs"),
        "steps": figures.get("steps"),
        "commit": (git.get("commit") or "")[:10] + ", with changes" * bool(git.get("changed")),
        "command": start.get("command"),
    }
    return {
        name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in facts.items() if value
    }


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _is_number(value: Any) -> bool:
    """Whether it is finite, and no text and no truth value."""
    try:
        return not isinstance(value, bool) and abs(float(value)) < float("inf")
    except (TypeError, ValueError):
        return False
