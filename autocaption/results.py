"""What an experiment leaves: its metrics, scores of each image, report, and the lines that end its output."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.sources import SPLITS
from autocaption.files import write_json
from autocaption.report.run_report import write_report
from autocaption.report.scores import intervals_of, write_per_image
from autocaption.report.system import read_system
from autocaption.report.tables import metrics_table

log = logging.getLogger(__name__)

REPORT = "report.html"  # of a run folder


def metric_of(folder: Path, name: str) -> float | None:
    """A metric that a finished run left."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get(name)


def metrics_of(trainer: pl.Trainer, *splits: str) -> dict[str, float]:
    """The metrics of these splits that were logged last."""
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.split("/")[0] in splits
    }


def write_metrics(trainer: pl.Trainer, folder: Path, split: str, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json, with the intervals of a test and what split its words, and per_image.csv."""
    tested: Any = trainer.lightning_module.metrics["test"]  # type: ignore[index]
    written: dict[str, Any] = {**metrics, "evaluation_tokenizer": tested.tokenizer.name}
    if tested.scored is not None:
        written["intervals"] = intervals_of(tested.scored, split)
        write_per_image(folder / "per_image.csv", tested.scored)
    write_json(folder / "metrics.json", written)


def report(trainer: pl.Trainer, folder: Path, split: str, best: str, most: int | None) -> None:
    """Write report.html; where that fails, the run's results are on disk all the same, and it goes on.

    Args:
        trainer: has tested.
        folder: the run folder.
        split: the split that was tested.
        best: the checkpoint that was tested; empty for none, or several.
        most: how many images the gallery holds; None for all.
    """
    data: CaptionDataModule = trainer.datamodule  # type: ignore[attr-defined]
    try:
        (folder / REPORT).unlink(missing_ok=True)  # an earlier attempt's would show its results
        system = read_system(folder, folder.name, split, training=Path(best).parents[1] if best else folder)
        write_report(
            folder / REPORT,
            title=folder.name,
            systems=[system],
            images=data.source.split(split),
            read=data.source.read,
            seen=data.evaluation_transform.seen,
            most=most,
        )
    except Exception as error:
        log.warning("no %s (report=null asks for none): %s: %s", REPORT, type(error).__name__, error)


def show(metrics: Mapping[str, Any], folder: Path, best: str) -> None:
    """Print the metrics, and where the run's files are."""
    console = Console()
    console.print(metrics_table(metrics, SPLITS))
    files = {
        "checkpoint": Path(best),
        "metrics": folder / "metrics.json",
        "captions": folder / "captions.json",
        "sample pictures": folder / "samples.png",
        "report": folder / REPORT,
    }
    for name, path in files.items():
        if path.is_file():
            console.print(f"{name:>15}  {path}", soft_wrap=True, highlight=False)
