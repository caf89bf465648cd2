"""What several rows say together: their differences, means over seeds, and the tables that show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.table import Table

from autocaption.evaluation.names import mean_of_seeds
from autocaption.evaluation.rows import Row
from autocaption.evaluation.seeds import Mean, mean_of
from autocaption.metrics.bootstrap import Comparison, Differences, Resampled
from autocaption.metrics.scored import Scored
from autocaption.report.examples import FIRST, by_importance
from autocaption.report.score_tables import score_cell, score_tables


@dataclass(frozen=True)
class Result:
    """A scored row.

    Attributes:
        row: the row.
        written: what its metrics.json holds.
        scored: the scores of its images.
    """

    row: Row
    written: Mapping[str, Any]
    scored: Scored | None

    def metrics(self, split: str) -> dict[str, float]:
        """{metric: value} of the split."""
        prefix = f"{split}/"
        return {k.removeprefix(prefix): v for k, v in self.written.items() if k.startswith(prefix)}

    @property
    def intervals(self) -> Mapping[str, Sequence[float]]:
        """{split/metric: its interval}; empty where nothing was scored."""
        return self.written.get("intervals", {})


@dataclass(frozen=True)
class Comparisons:
    """Several rows on one split.

    Attributes:
        split: the split.
        results: the rows, at least two.
        differences: {(row, other row): {metric: how much higher the first is}}, by a paired bootstrap, of
            rows that were scored on the same images.
        means: {experiment: {metric: mean over its seeds}}.
        mean_differences: {(experiment, other experiment): {metric: how much higher the first's mean is}},
            likewise; over other images, with the same seeds.
    """

    split: str
    results: Sequence[Result]
    differences: Differences
    means: Mapping[str, Mapping[str, Mean]]
    mean_differences: Differences

    @classmethod
    def of(cls, split: str, results: Sequence[Result]) -> "Comparisons":
        """Compare them; rows on other images than the first are left out of the differences."""
        resampled = {
            one.row.name: Resampled.of(one.scored)
            for one in results
            if one.scored and _ids(one) == _ids(results[0])
        }
        groups: dict[str, list[Result]] = {}
        for one in results:
            if one.row.group:
                groups.setdefault(one.row.group, []).append(one)
        means = {
            group: Resampled.mean([resampled[one.row.name] for one in seeds])
            for group, seeds in groups.items()
            if all(one.row.name in resampled for one in seeds)
        }
        return cls(
            split,
            results,
            _differences(resampled),
            {group: _means([one.metrics(split) for one in seeds]) for group, seeds in groups.items()},
            _differences(means),
        )

    def apart(self) -> list[str]:
        """The rows that were scored on other images than the first."""
        return [one.row.name for one in self.results if _ids(one) != _ids(self.results[0])]

    def of_systems(self) -> Differences:
        """All differences by the names that the report has, those of means first."""
        of_means = {
            (mean_of_seeds(one), mean_of_seeds(other)): found
            for (one, other), found in self.mean_differences.items()
        }
        return {**of_means, **self.differences}

    def plain(self) -> dict[str, Any]:
        """What metrics.json holds of them."""
        return {
            "split": self.split,
            "rows": {
                one.row.name: {
                    "folder": one.row.folder,
                    "checkpoints": [_from_here(path) for path in one.row.checkpoints],
                    "captions": one.row.captions and _from_here(one.row.captions),
                    **one.written,
                }
                for one in self.results
            },
            "differences": self._plain_differences("row", self.differences),
            "seeds": {
                group: {
                    "rows": [one.row.name for one in self.results if one.row.group == group],
                    "metrics": {
                        f"{self.split}/{name}": {
                            "mean": one.mean,
                            "std": one.std,
                            "interval": [one.low, one.high],
                        }
                        for name, one in found.items()
                    },
                }
                for group, found in self.means.items()
            },
            "mean_differences": self._plain_differences("seeds", self.mean_differences),
        }

    def _plain_differences(self, kind: str, differences: Differences) -> list[dict[str, Any]]:
        return [
            {
                kind: one,
                "other": other,
                "metrics": {
                    f"{self.split}/{name}": {
                        "difference": found.difference,
                        "interval": [found.low, found.high],
                        "p": found.p,
                    }
                    for name, found in metrics.items()
                },
            }
            for (one, other), metrics in differences.items()
        ]

    def tables(self, width: int) -> list[Table]:
        """Rows with their intervals, means over seeds, and each row against the first.

        Args:
            width: of the terminal; metrics that few people look at stand in metrics.json and the report.
        """
        shown, first = self._shown(), self.results[0].row.name
        rows = {one.row.name: self._cells(one, shown) for one in self.results}
        tables = score_tables("row", rows, "95 % bootstrap intervals over the images", width)
        tables += _against("difference", shown, first, self.differences, width)
        if self.means:
            means = {
                group: {
                    name: score_cell((one := found[name]).mean, (one.low, one.high), one.std)
                    for name in shown
                    if name in found
                }
                for group, found in self.means.items()
            }
            caption = "\N{PLUS-MINUS SIGN} sample standard deviation, 95 % t intervals"
            tables += score_tables("mean over seeds", means, caption, width)
            tables += _against("difference of means", shown, next(iter(means)), self.mean_differences, width)
        return tables

    def _cells(self, one: Result, shown: Sequence[str]) -> dict[str, str]:
        values = one.metrics(self.split)
        return {
            name: score_cell(values.get(name), one.intervals.get(f"{self.split}/{name}")) for name in shown
        }

    def _shown(self) -> list[str]:
        names = dict.fromkeys(name for one in self.results for name in one.metrics(self.split))
        ordered = by_importance(list(names))
        return [name for name in ordered if name in FIRST] or ordered


def _from_here(path: str) -> str:
    """A path as a command line would name it, where the file lies below the folder of this one."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _ids(result: Result) -> Sequence[Any]:
    return list(result.scored.ids) if result.scored else []


def _means(runs: Sequence[Mapping[str, float]]) -> dict[str, Mean]:
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: mean_of([run[name] for run in runs]) for name in names}


def _differences(systems: Mapping[str, Resampled]) -> Differences:
    return {(one, other): systems[one].less(systems[other]) for one, other in combinations(systems, 2)}


def _against(
    title: str, shown: Sequence[str], first: str, differences: Differences, width: int
) -> list[Table]:
    """How much higher the others are than the first."""
    against = {
        other: {name: _difference_cell(found[name]) for name in shown if name in found}
        for (one, other), found in differences.items()
        if one == first
    }
    caption = f"less {first}, by a paired bootstrap over the images: 95 % interval, p of no difference"
    return score_tables(title, against, caption, width)


def _difference_cell(one: Comparison) -> str:
    # The other row less the first.
    difference, low, high = (0.0 - value for value in (one.difference, one.high, one.low))
    return f"{difference:+.3f}\n{low:+.3f} to {high:+.3f}\np {one.p:.3f}"
