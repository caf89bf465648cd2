"""report.html: what one or several systems said about the images of a split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from autocaption.data.sources import CaptionedImage
from autocaption.data.transforms import Box
from autocaption.metrics.bootstrap import Differences
from autocaption.report import html
from autocaption.report.charts import BINS, curve_charts, histograms
from autocaption.report.comparisons import pairs
from autocaption.report.examples import picks, sentence_metrics, spread
from autocaption.report.scoreboard import scoreboard
from autocaption.report.system import Sentence, System
from autocaption.report.thumbnails import GALLERY, LARGE, Shrink, Thumbnail, thumbnails

TILES = 6  # metrics in large type
PAIRS = 10  # of a metric that stand open; more are folded away
FULL = 2  # systems with which the gallery holds as many images as asked for; with more, it holds fewer


@dataclass(frozen=True)
class Shown:
    """An image on the page.

    Attributes:
        id: the image's id.
        references: its captions as written.
        picture: its thumbnail.
        seen: what part of it the models see.
        sentences: what each system said, None where it said nothing.
    """

    id: str
    references: Sequence[str]
    picture: Thumbnail
    seen: Box
    sentences: Sequence[Sentence | None]


def write_report(
    file: Path,
    title: str,
    systems: Sequence[System],
    images: Sequence[CaptionedImage],
    read: Callable[[CaptionedImage, int | None], Image.Image],
    seen: Callable[[int, int], Box],
    most: int | None,
    note: str = "",
    compared: Differences = MappingProxyType({}),
) -> None:
    """Write the page.

    Args:
        file: where to.
        title: its heading.
        systems: at least one; scored on the same images if they are to be compared.
        images: the images of the split, in its order; those without a caption are left out.
        read: an image's picture, its sides not needed beyond so many pixels (Source.read).
        seen: what part of a picture of this width and height the models see.
        most: how many images the gallery holds, None for all that have a caption; with many systems it holds
            fewer, and with several no heat maps, so that the page stays small.
        note: what a reader must know about the metrics.
        compared: pairs of the systems, by their names.
    """
    by_id = {str(image.id): image for image in images}
    said = [id for id in by_id if any(id in system.sentences for system in systems)]
    metrics = sentence_metrics(systems)
    metric = metrics[0] if metrics else None
    picked = picks(systems, said, metric)
    if most is not None:
        speaking = sum(1 for system in systems if system.sentences)
        most = most * FULL // max(FULL, speaking)
    gallery = spread(said, picked.all, most)

    def shown(ids: Sequence[str], shrink: Shrink) -> dict[str, Shown]:
        """What the page shows of these images, with thumbnails of one size."""
        pictures = thumbnails((by_id[id] for id in ids), lambda image: read(image, shrink.least), shrink)
        return {
            id: Shown(
                id,
                by_id[id].captions,
                picture,
                seen(*picture.original),
                [system.sentences.get(id) for system in systems],
            )
            for id, picture in zip(ids, pictures, strict=True)
        }

    large = shown(picked.all, LARGE)
    html.write_page(
        file,
        "report.html",
        title=title,
        systems=systems,
        metrics=metrics,
        note=note,
        scoreboard=scoreboard(systems),
        tiles=TILES,
        pairs=pairs([system.name for system in systems], compared),
        open_pairs=PAIRS,
        curves=curve_charts(systems),
        histograms=histograms(systems, {metric: html.title(metric) for metric in metrics}),
        examples={heading: [large[id] for id in ids] for heading, ids in picked.examples.items()},
        differing=[large[id] for id in picked.differing],
        gallery=list(shown(gallery, GALLERY).values()),
        captioned=len(said),
        highest=1.0 if metric is None else _highest(systems, metric),
        bins=BINS,
        commands=_commands(systems),
    )


def _highest(systems: Sequence[System], metric: str) -> float:
    """The highest score of a single caption, 1 where that is no length to measure others by."""
    highest = max(score for system in systems for score in system.scores(metric).values())
    return highest if highest > 0 else 1.0


def _commands(systems: Sequence[System]) -> dict[str, list[str]]:
    """{command: the systems that it made}."""
    commands: dict[str, list[str]] = {}
    for system in systems:
        if "command" in system.facts:
            commands.setdefault(system.facts["command"], []).append(system.name)
    return commands
