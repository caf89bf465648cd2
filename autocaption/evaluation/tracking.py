"""What the loggers get of an evaluation, which is one run of theirs, however many rows it has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from autocaption import build
from autocaption.evaluation.comparison import Comparisons, Result
from autocaption.evaluation.names import mean_of_seeds
from autocaption.evaluation.rows import Row
from autocaption.loggers import Resumable
from autocaption.loggers.wandb import WandbLogger
from autocaption.metrics.bootstrap import Comparison, Differences
from autocaption.ranks import is_first_rank

Table = tuple[list[str], list[list[Any]]]  # columns and rows


@contextmanager
def started_loggers(config: DictConfig, rows: Sequence[Row]) -> Iterator[Sequence[Logger]]:
    """The configured loggers with the configuration, until the evaluation ends; none on other ranks.

    Of each row they get what it is; config.yaml has its whole configuration.
    """
    said = [
        {"name": row.name, "checkpoints": list(row.checkpoints), "captions": row.captions} for row in rows
    ]
    logged = config.copy()
    OmegaConf.update(logged, "rows", said, merge=False, force_add=True)
    loggers = build.loggers(logged) if is_first_rank() else []
    for logger in loggers:
        if isinstance(logger, Resumable):  # of the evaluation that this one repeats in its folder
            logger.resume_at(0)
    build.start_loggers(loggers, logged)
    status = "failed"
    try:
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)


def log_scores(loggers: Sequence[Logger], split: str, results: Sequence[Result]) -> None:
    """Log the metrics of each row: by their own keys of a single one, as in ROW/test/cider of several."""
    scores = {
        f"{PurePath(one.row.folder).name}/{split}/{name}".lstrip("/"): value
        for one in results
        for name, value in one.metrics(split).items()
    }
    for logger in loggers:
        logger.log_metrics(scores, step=0)


def log_tables(loggers: Sequence[Logger], together: Comparisons) -> None:
    """Log to W&B what several rows say together, as tables that can be sorted and plotted there."""
    tables = {
        "rows": _rows(together),
        "differences": _differences(together.differences),
        "mean_differences": _differences(together.mean_differences),
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for name, (columns, rows) in tables.items():
                if rows:
                    logger.log_table(name, columns=columns, data=rows, step=0)


def _rows(together: Comparisons) -> Table:
    """Rows and means with a column a metric, and two for the ends of its interval."""
    split = together.split
    found = {
        one.row.name: {
            name: (value, *(one.intervals.get(f"{split}/{name}") or (None, None)))
            for name, value in one.metrics(split).items()
        }
        for one in together.results
    }
    for group, means in together.means.items():
        found[mean_of_seeds(group)] = {name: (one.mean, one.low, one.high) for name, one in means.items()}
    names = list(dict.fromkeys(name for scores in found.values() for name in scores))
    columns = ["row", *(f"{name}{end}" for name in names for end in ("", " low", " high"))]
    nothing = (None, None, None)
    return columns, [
        [row, *(value for name in names for value in scores.get(name, nothing))]
        for row, scores in found.items()
    ]


def _differences(differences: Differences) -> Table:
    """A row for each metric of each pair."""
    return ["row", "other", "metric", *Comparison._fields], [
        [row, other, metric, *one]
        for (row, other), found in differences.items()
        for metric, one in found.items()
    ]
