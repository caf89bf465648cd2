"""An evaluation from configuration to metrics: what eval.py runs."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.console import Console

from autocaption import build, results
from autocaption.config import with_optional_values
from autocaption.data.sources import ImageId, Source
from autocaption.data.transforms import Box
from autocaption.evaluation.comparison import Comparisons, Result
from autocaption.evaluation.human import NOTE, WithoutFirst
from autocaption.evaluation.names import mean_of_seeds
from autocaption.evaluation.result_file import read_captions
from autocaption.evaluation.rows import Row, planned, rows_of
from autocaption.evaluation.tracking import log_scores, log_tables, started_loggers
from autocaption.files import write_json
from autocaption.metrics.bootstrap import Differences
from autocaption.metrics.caption_metrics import CaptionMetrics
from autocaption.ranks import is_first_rank
from autocaption.recording import begin, overrides, record_data, recorded_run, seed_everything
from autocaption.report.system import System, read_system
from autocaption.runs import checkpoint
from autocaption.runs.provenance import FILE as PROVENANCE

MADE_BY = "command", "git", "packages", "data"  # of provenance.json, also in metrics.json

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> float | None:
    """Score models, ensembles of them, and captions that exist, on `data.split`.

    Returns:
        the metric named by `optimized_metric`, of the first row.
    """
    config = with_optional_values(config)
    if is_first_rank():  # which hands the others what it has planned
        config = planned(config, overrides())
    with recorded_run(config, "eval") as run:
        begin(run, config)
        source = build.source_of(config)
        record_data(run, source, [config.data.split])
        if config.human:
            source = WithoutFirst(source, config.data.split)
        evaluation = _Evaluation(config, source, rows := rows_of(config))
        with started_loggers(config, rows) as loggers:
            found = [one for row in rows if (one := evaluation.score(row)) is not None]
            if run is not None:
                evaluation.leave(found, loggers)
        return found[0].written.get(config.optimized_metric) if found else None


class _Evaluation:
    """Scores rows one after the other, and keeps what the last lines and the report need of them.

    Args:
        config: the configuration of all.
        source: the data set, with the references that count.
        rows: the rows, of which those with captions are read at once.
    """

    def __init__(self, config: DictConfig, source: Source, rows: Sequence[Row]) -> None:
        self.config, self.source = config, source
        self.folder, self.split = Path(config.run_dir), config.data.split
        self.captions = {row.name: self._captions(row) for row in rows if not row.checkpoints}
        self.seen: Callable[[int, int], Box] = lambda width, height: (0.0, 0.0, 1.0, 1.0)

    def score(self, row: Row) -> Result | None:
        """Score a row and write its files; None on other ranks than the first."""
        folder = self.folder / row.folder
        if row.folder:
            log.info("Scoring: %s", row.name)
        if is_first_rank():
            folder.mkdir(parents=True, exist_ok=True)
        if row.checkpoints:
            metrics, scorer = self._tested(row)
        elif not is_first_rank():
            return None
        else:
            metrics, scorer = self._existing(row, folder)
        if not is_first_rank():
            return None
        facts = {"references": NOTE} if self.config.human else {}
        if not row.folder:  # the only row, whose metrics.json is that of the run
            facts |= self._made_by()
        written = results.write_scores(folder, self.split, {**metrics, **facts}, scorer, self.source)
        return Result(row, written, scorer.scored)

    def _tested(self, row: Row) -> tuple[dict[str, Any], CaptionMetrics]:
        """What a model's captions score."""
        config: Any = self.config.copy() if row.config is None else OmegaConf.create(dict(row.config))
        OmegaConf.update(config, "logger", {}, merge=False, force_add=True)  # the evaluation has them
        seed_everything(config)
        every = {path: checkpoint.load(path) for path in row.checkpoints}
        saved = next(iter(every.values()))
        if len(every) == 1:
            data, captioner = build.from_checkpoint(config, saved, self.source)
        else:
            data, captioner = build.from_checkpoints(config, every, self.source)
        trainer = build.trainer(config)
        data.preload(data.split_of("test"))
        trainer.test(build.compiled(config, captioner), data, verbose=False)
        self.seen = data.evaluation_transform.seen
        trained = {"epochs": saved["epoch"] + 1} if "epoch" in saved else {}  # an export doesn't tell
        metrics = {"split": self.split, **trained, **results.metrics_of(trainer, self.split)}
        return metrics, results.tested(trainer)

    def _captions(self, row: Row) -> dict[ImageId, str]:
        """{image id: caption} of a row that needs no model."""
        if row.captions is not None:
            return read_captions(Path(row.captions), self.source.split(self.split), self.split)
        assert isinstance(self.source, WithoutFirst)
        return self.source.first

    def _existing(self, row: Row, folder: Path) -> tuple[dict[str, Any], CaptionMetrics]:
        """What captions score that are there already."""
        images, captions = self.source.split(self.split), self.captions[row.name]
        scorer = build.metrics(self.config, self.source)
        scorer.update(
            [captions[image.id] for image in images],
            [image.captions for image in images],
            [image.id for image in images],
        )
        # Not by `compute`, for which the other ranks would have to come.
        scorer.scored = scorer.score(scorer.images())
        write_json(
            folder / results.CAPTIONS,
            [{"image_id": image.id, "caption": captions[image.id]} for image in images],
        )
        # In single precision, as Lightning logs those of a model.
        scores = {
            f"{self.split}/{name}": float(np.float32(score)) for name, score in scorer.scored.scores().items()
        }
        return {"split": self.split, **scores}, scorer

    def leave(self, found: Sequence[Result], loggers: Sequence[Logger]) -> None:
        """Write, print and log what the run leaves."""
        console = Console()
        if len(found) == 1:
            (one,) = found
            best = one.row.checkpoints[0] if len(one.row.checkpoints) == 1 else ""
            self._report(lambda: [self._system(one.row, self.folder.name)], {})
            results.show(one.written, self.folder, best)
        else:
            together = Comparisons.of(self.split, found)
            write_json(self.folder / results.METRICS, {**together.plain(), **self._rules(found)})
            self._report(
                lambda: [*(self._system(one.row, one.row.name) for one in found), *_means(together)],
                together.of_systems(),
            )
            for table in together.tables(console.width):
                console.print(table)
            if apart := together.apart():
                log.warning(
                    "Scored on other images than %s, and so not compared: %s",
                    *(found[0].row.name, ", ".join(apart)),
                )
            results.show_files(console, self.folder)
            log_tables(loggers, together)
        if self.config.human:
            log.info("Scored against %s", NOTE)
        log_scores(loggers, self.split, found)
        results.log_report(loggers, self.folder)

    def _rules(self, found: Sequence[Result]) -> dict[str, Any]:
        """By what rules, on what and by what all rows were scored."""
        return {
            "evaluation_tokenizer": found[0].written["evaluation_tokenizer"],
            "references": NOTE if self.config.human else "all captions of each image",
            **self._made_by(),
        }

    def _made_by(self) -> dict[str, Any]:
        """Command, commit, versions and the data's digest."""
        start = json.loads((self.folder / PROVENANCE).read_text(encoding="utf-8"))[-1]
        return {key: start.get(key) for key in MADE_BY}

    def _system(self, row: Row, name: str) -> System:
        training = Path(row.checkpoints[0]).parents[1] if len(row.checkpoints) == 1 else None
        return read_system(self.folder / row.folder, name, self.split, training, self.folder)

    def _report(self, systems: Callable[[], Sequence[System]], compared: Differences) -> None:
        if self.config.get("report"):
            note = f"scored against {NOTE}" if self.config.human else ""
            most = self.config.report.images
            results.report(self.folder, systems, self.source, self.split, self.seen, most, note, compared)


def _means(together: Comparisons) -> list[System]:
    """Means over seeds as columns of the report's table of metrics."""
    split = together.split
    return [
        System(
            name=mean_of_seeds(group),
            split=split,
            metrics={f"{split}/{name}": one.mean for name, one in found.items()},
            intervals={f"{split}/{name}": (one.low, one.high) for name, one in found.items()},
        )
        for group, found in together.means.items()
    ]
