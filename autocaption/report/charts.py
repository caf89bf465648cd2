"""Charts as plain coordinates, which a template draws as SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from autocaption.report.system import Curve, System

WIDTH, HEIGHT = 360, 210  # of a chart, in the units of its own coordinates
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26  # margins within it
POINTS = 120  # of a curve; more could not be told apart
BINS = 24


@dataclass(frozen=True)
class Axis:
    """A scale from values to coordinates.

    Attributes:
        low: the value at its start; likewise `high`.
        start: the coordinate at its start; likewise `end`.
        ticks: the values to name.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]
    log: bool = False

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        low, high, value = (
            (math.log(x) for x in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return round(self.start + (value - low) / ((high - low) or 1) * (self.end - self.start), 1)


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: for the legend.
        colour: the number of its colour.
        points: its values.
        path: the same as an SVG path.
        area: whether to fill what lies below.
    """

    name: str
    colour: int
    points: Curve
    path: str
    area: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over two axes.

    Attributes:
        title: what the y axis shows.
        across: what the x axis shows.
        x: the horizontal axis; likewise `y`.
        lines: the lines.
        width: of the whole chart; likewise `height`.
    """

    title: str
    across: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    width: int = WIDTH
    height: int = HEIGHT


def curve_charts(systems: Sequence[System]) -> list[Chart]:
    """Loss, perplexity, BLEU-4, CIDEr-D and learning rate over the steps, as far as they were logged.

    A single system's training and validation are two lines; of several, each validation is one.
    """
    wanted = [
        ("Loss", ("train/loss", "val/loss"), False),
        ("Perplexity", ("train/perplexity", "val/perplexity"), True),
        ("BLEU-4", ("val/bleu4",), False),
        ("CIDEr-D", ("val/cider",), False),
    ]
    charts = []
    for title, keys, log in wanted:
        lines: list[tuple[str, int, Curve]] = []
        for number, system in enumerate(systems):
            for key in keys if len(systems) == 1 else keys[-1:]:
                if key in system.curves:
                    stage = {"train": "training", "val": "validation"}[key.split("/")[0]]
                    colour = 0 if stage == "validation" else 1
                    alone = len(systems) == 1
                    lines.append(
                        (stage if alone else system.name, colour if alone else number, system.curves[key])
                    )
        charts.append(_chart(title, "step", lines, log=log))
    charts.append(_chart("Learning rate", "step", list(_learning_rates(systems))))
    return [chart for chart in charts if chart is not None]


def _learning_rates(systems: Sequence[System]) -> Iterable[tuple[str, int, Curve]]:
    """Each system's rates, those that are equal once."""
    for number, system in enumerate(systems):
        seen: list[Curve] = []
        for key, curve in system.curves.items():
            if key.startswith("lr") and curve not in seen:
                seen.append(curve)
                alone = len(systems) == 1
                yield (
                    key.removeprefix("lr").strip("-/") or "learning rate" if alone else system.name,
                    len(seen) - 1 if alone else number,
                    curve,
                )


def histograms(systems: Sequence[System], metrics: Mapping[str, str]) -> list[Chart]:
    """The distribution of each sentence score, a line for each system.

    Args:
        systems: the systems.
        metrics: {metric: its title}.
    """
    charts = []
    for metric, title in metrics.items():
        scores = [list(system.scores(metric).values()) for system in systems]
        together = [score for those in scores for score in those]
        if not together:
            continue
        low, high = min(0.0, *together), max(together)
        step = (high - low) / BINS or 1.0
        lines: list[tuple[str, int, Curve]] = []
        for number, (system, those) in enumerate(zip(systems, scores, strict=True)):
            counts = [0] * BINS
            for score in those:
                counts[min(BINS - 1, int((score - low) / step))] += 1
            shares = [count / max(1, len(those)) for count in counts]
            outline = [(low, 0.0)]
            for i, share in enumerate(shares):
                outline += [(low + i * step, share), (low + (i + 1) * step, share)]
            lines.append((system.name, number, [*outline, (low + BINS * step, 0.0)]))
        chart = _chart(title, "share of the images", lines, area=True)
        charts += [chart] if chart else []
    return charts


def _chart(
    title: str,
    across: str,
    named: Sequence[tuple[str, int, Curve]],
    log: bool = False,
    area: bool = False,
) -> Chart | None:
    named = [(name, colour, curve if area else thinned(curve)) for name, colour, curve in named if curve]
    if not named:
        return None
    xs, ys = ([point[i] for _, _, curve in named for point in curve] for i in (0, 1))
    log = log and min(ys) > 0 and max(ys) > 10 * min(ys)
    x = axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = axis(0 if area else min(ys), max(ys), HEIGHT - BOTTOM, TOP, log)
    lines = [
        Line(name, colour, curve, "M" + "L".join(f"{x.at(a):g} {y.at(b):g}" for a, b in curve), area)
        for name, colour, curve in named
    ]
    return Chart(title, across, x, y, lines)


def thinned(curve: Curve, most: int = POINTS) -> Curve:
    """A curve of at most so many points: means of groups of equally many."""
    size = -(-len(curve) // most)
    groups = (list(group) for _, group in groupby(enumerate(curve), lambda pair: pair[0] // size))
    if size < 2:
        return curve
    return [
        (sum(point[0] for _, point in group) / len(group), sum(point[1] for _, point in group) / len(group))
        for group in groups
    ]


def axis(low: float, high: float, start: float, end: float, log: bool = False) -> Axis:
    """An axis over values, with ticks at round numbers."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [m * 10.0**power for power in powers for m in (1, 3)]
        return Axis(low, high, start, end, [mark for mark in marks if low <= mark <= high], True)
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    size = 10 ** math.floor(math.log10((high - low) / 4))
    step = min((m * size for m in (1, 2, 5, 10)), key=lambda step: abs((high - low) / step - 4))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Axis(low, high, start, end, [round(n * step, 12) for n in range(first, last + 1)])
