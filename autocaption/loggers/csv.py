"""Metrics as one CSV file of a run, also of a resumed one."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from autocaption.files import write_text


class CSVLogger(Logger):
    """Appends a row for each step that logs, at once, so that a killed run keeps what it logged.

    Lightning's own logger starts another file (version_1) for a resumed run, which repeats steps.

    Args:
        folder: where metrics.csv lies.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.file = Path(folder) / "metrics.csv"
        self._columns = self._read()[0]

    @property
    def name(self) -> str:
        """For Lightning; the file has the same name in every run."""
        return "csv"

    @property
    def version(self) -> str:
        """For Lightning; there is one version a run."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> "CSVLogger":
        """This logger."""
        return self

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a row."""
        row = {name: value.item() if torch.is_tensor(value) else value for name, value in metrics.items()}
        row |= {"step": 0 if step is None else step}
        new = set(row) - set(self._columns)
        if new:
            rows = self._read()[1]
            self._columns = _ordered([*self._columns, *new])
            self._write([*rows, row])
            return
        with open(self.file, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Forget the rows of a step and those after it, which are logged again; all of them at step 0."""
        self._columns, rows = self._read()
        if kept := [row for row in rows if int(row["step"]) < step]:
            self._write(kept)
        else:
            self._columns = []
            self.file.unlink(missing_ok=True)

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        """(columns, rows); a last line that a killed process left half written is left out."""
        if not self.file.exists():
            return [], []
        whole = self.file.read_text(encoding="utf-8").rpartition("\n")[0]
        reader = csv.DictReader(io.StringIO(whole))
        rows = [row for row in reader if None not in row.values()]
        return list(reader.fieldnames or []), rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.file, text.getvalue())


def _ordered(columns: list[str]) -> list[str]:
    first = [name for name in ("epoch", "step") if name in columns]
    return first + sorted(set(columns) - set(first))
