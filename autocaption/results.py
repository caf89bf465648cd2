"""What a run leaves: its metrics, scores of each image, report, and the lines that end its output."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from autocaption.data.sources import SPLITS, Source
from autocaption.data.transforms import Box
from autocaption.files import write_json
from autocaption.loggers.wandb import WandbLogger
from autocaption.metrics.bootstrap import Differences
from autocaption.metrics.caption_metrics import CaptionMetrics
from autocaption.report.run_report import write_report
from autocaption.report.scores import intervals_of, write_per_image
from autocaption.report.system import System
from autocaption.report.tables import metrics_table

log = logging.getLogger(__name__)

METRICS, CAPTIONS, PER_IMAGE, REPORT = "metrics.json", "captions.json", "per_image.csv", "report.html"


def metric_of(folder: Path, name: str) -> float | None:
    """A metric that a finished run left."""
    return json.loads((folder / METRICS).read_text(encoding="utf-8")).get(name)


def metrics_of(trainer: pl.Trainer, *splits: str) -> dict[str, float]:
    """The metrics of these splits that were logged last."""
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.split("/")[0] in splits
    }


def tested(trainer: pl.Trainer) -> CaptionMetrics:
    """The metrics of the model that the Trainer has, with what its last test scored."""
    module: Any = trainer.lightning_module
    return module.metrics["test"]


def write_scores(
    folder: Path, split: str, metrics: Mapping[str, Any], scorer: CaptionMetrics, source: Source
) -> dict[str, Any]:
    """Write metrics.json, with what a test scored, its intervals and what split its words, and per_image.csv.

    Args:
        folder: where to.
        split: the split that was scored.
        metrics: what metrics.json begins with.
        scorer: has scored, or nothing was tested.
        source: the data set.

    Returns:
        what metrics.json holds.
    """
    written: dict[str, Any] = {**metrics, "evaluation_tokenizer": scorer.tokenizer.name}
    if scorer.scored is not None:
        written["images"], whole = len(scorer.scored.ids), len(source.split(split))
        if written["images"] < whole:
            log.warning("%s/... scores %d of %d images (limit_test_batches)", split, written["images"], whole)
        written["intervals"] = intervals_of(scorer.scored, split)
        write_per_image(folder / PER_IMAGE, scorer.scored)
    write_json(folder / METRICS, written)
    return written


def report(
    folder: Path,
    systems: Callable[[], Sequence[System]],
    source: Source,
    split: str,
    seen: Callable[[int, int], Box],
    most: int | None,
    note: str = "",
    compared: Differences = MappingProxyType({}),
) -> None:
    """Write report.html; where that fails, the run's results are on disk all the same, and it goes on.

    Args:
        folder: the run folder.
        systems: reads what to show.
        source: the data set.
        split: the split that was scored.
        seen: what part of a picture of this width and height the models see.
        most: how many images the gallery holds; None for all.
        note: what a reader must know about the metrics.
        compared: pairs of the systems, by their names.
    """
    try:
        (folder / REPORT).unlink(missing_ok=True)  # an earlier attempt's would show its results
        write_report(
            folder / REPORT,
            title=folder.name,
            systems=systems(),
            images=source.split(split),
            read=source.read,
            seen=seen,
            most=most,
            note=note,
            compared=compared,
        )
    except Exception as error:
        log.warning("no %s (report=null asks for none): %s: %s", REPORT, type(error).__name__, error)


def log_report(loggers: Iterable[Any], folder: Path) -> None:
    """Hand the report to the loggers that take one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_report(folder / REPORT)


def show(metrics: Mapping[str, Any], folder: Path, best: str = "") -> None:
    """Print the metrics, and where the run's files are.

    Args:
        metrics: of all splits.
        folder: the run folder.
        best: the checkpoint that was tested; empty for none, or several.
    """
    console = Console()
    console.print(metrics_table(metrics, SPLITS))
    show_files(console, folder, best)


def show_files(console: Console, folder: Path, best: str = "") -> None:
    """Print where those of the run's files are that exist."""
    files = {
        "checkpoint": Path(best),
        "metrics": folder / METRICS,
        "captions": folder / CAPTIONS,
        "sample pictures": folder / "samples.png",
        "report": folder / REPORT,
    }
    for name, path in files.items():
        if path.is_file():
            console.print(f"{name:>15}  {path}", soft_wrap=True, highlight=False)
