"""The metrics of a split, as one torchmetrics Metric."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from autocaption.data.sources import ImageId
from autocaption.errors import UserError
from autocaption.metrics.corpus import Corpus, EvaluationTokenizer, Generated, TrainingCaptions
from autocaption.metrics.scored import ImageMetric, Scored, SplitMetric, names_of

OF_THE_MODEL = "loss", "perplexity"  # logged beside the scores


class CaptionMetrics(Metric):
    """Scores generated captions, over the whole split and all devices.

    Its state is the text: a line of JSON an image, which reaches a tensor once an update. All of them, from
    all ranks and sorted, are scored together by the first rank, so that a score is the same to the last
    digit on any number of devices, and CIDEr-D knows all references.

    Args:
        tokenizer: the evaluation tokenizer.
        image_metrics: metrics that follow from sums over images; None for one that is left out.
        split_metrics: metrics of the split as a whole.
        training_captions: gives the captions of each training image; None where there are none.
        settings: of torchmetrics.

    Attributes:
        scored: what the last `compute` found, on the first rank; None before.

    Raises:
        UserError: two metrics give a score of one name.
    """

    full_state_update = False
    lines: list[Tensor]

    def __init__(
        self,
        tokenizer: EvaluationTokenizer,
        image_metrics: Mapping[str, ImageMetric | None],
        split_metrics: Mapping[str, SplitMetric | None],
        training_captions: Callable[[], Iterable[Sequence[str]]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.tokenizer = tokenizer
        self.image_metrics = [metric for metric in image_metrics.values() if metric is not None]
        self.split_metrics = [metric for metric in split_metrics.values() if metric is not None]
        _require_different_names([*self.image_metrics, *self.split_metrics])
        self.training_captions = TrainingCaptions(training_captions, tokenizer)
        self.scored: Scored | None = None
        self.add_state("lines", [], dist_reduce_fx="cat")

    def update(
        self,
        captions: Sequence[str] | Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        ids: Sequence[ImageId] | None = None,
    ) -> None:
        """Keep captions and references, as they are written.

        Args:
            captions: each image's caption, or its captions, the best one first.
            references: the references of each image, at least one.
            ids: ids of the images; None for their places in this update.

        Raises:
            ValueError: a string in place of a list, or lists of unequal length.
            UserError: an image has no references.
        """
        ids = ids or range(len(captions))
        if isinstance(captions, str) or any(isinstance(texts, str) for texts in references):
            raise ValueError("metrics take a list of captions and, for each, a list of references")
        if not len(captions) == len(references) == len(ids):
            raise ValueError(
                f"{len(captions)} captions and {len(references)} references of {len(ids)} images"
            )
        for id, texts in zip(ids, references, strict=True):
            if not texts:
                raise UserError(f"image {id} has no reference captions; metrics need at least one")
        several = [[texts] if isinstance(texts, str) else list(texts) for texts in captions]
        images = zip(ids, several, map(list, references), strict=True)
        text = "".join(json.dumps(image) + "\n" for image in images)
        if text:
            self.lines.append(_bytes(text).to(self.device))

    def sync(self, *args: Any, **settings: Any) -> None:
        """Gather the lines of all ranks, also from a rank without any."""
        if not self.lines:  # torchmetrics (1.9) would send floats
            self.lines.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        super().sync(*args, **settings)

    def compute(self) -> dict[str, Tensor]:
        """{name: score} of the split; empty if there was no update.

        Raises:
            UserError: a metric cannot run, on any rank.
        """
        scores: list[Any] = [None]
        if not _distributed() or dist.get_rank() == 0:
            try:
                self.scored = self.score(self.images())
                scores = [self.scored.scores()]
            except UserError as error:  # the other ranks must not wait for it
                scores = [error]
        if _distributed():
            dist.broadcast_object_list(scores, src=0)
        if isinstance(scores[0], UserError):
            raise scores[0]
        return {name: torch.tensor(score, dtype=torch.float64) for name, score in scores[0].items()}

    @property
    def names(self) -> list[str] | None:
        """The names of the scores; None where a metric doesn't tell its own."""
        return names_of([*self.image_metrics, *self.split_metrics])

    def images(self) -> list[Generated]:
        """What was kept: within `compute` of all ranks, otherwise of this one."""
        text = bytes(dim_zero_cat(self.lines).cpu().numpy()).decode() if len(self.lines) else ""
        return [Generated(*json.loads(line)) for line in sorted(text.splitlines())]

    def score(self, images: Sequence[Generated]) -> Scored:
        """The scores of these images, whatever was kept; it needs no other rank."""
        if not images:
            return Scored([], [], {})
        corpus = Corpus(images, self.tokenizer, self.training_captions)
        return Scored(
            [image.id for image in images],
            [(metric, metric.statistics(corpus)) for metric in self.image_metrics],
            {name: s for metric in self.split_metrics for name, s in metric.split_scores(corpus).items()},
        )


def _require_different_names(metrics: Iterable[ImageMetric | SplitMetric]) -> None:
    """Refuse metrics of which one would stand under another's key, with its interval."""
    names = [*OF_THE_MODEL, *(name for metric in metrics for name in getattr(metric, "names", None) or ())]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"two metrics are called {twice}; name yours otherwise, or leave the other out, as with "
            "metrics.image_metrics.NAME=null"
        )


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
