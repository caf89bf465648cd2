"""Corpus BLEU as a torchmetrics Metric, for other trainings than ours."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from autocaption.metrics.bleu import Bleu, counts


class CorpusBleu(Metric):
    """BLEU-1 to BLEU-n of captions and references that have been tokenized alike: words are split at spaces.

    Args:
        n_gram: the longest n-grams.
        settings: of torchmetrics.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, n_gram: int = 4, **settings: object) -> None:
        super().__init__(**settings)
        self.bleu = Bleu(n_gram)
        self.add_state("sums", torch.zeros(2 * n_gram + 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Sequence[str], target: Sequence[Sequence[str]]) -> None:
        """Count captions against their references.

        Args:
            preds: one caption an image.
            target: the references of each image, at least one.

        Raises:
            ValueError: a string in place of a list, lists of unequal length, or an image without references.
        """
        if isinstance(preds, str) or any(isinstance(references, str) for references in target):
            raise ValueError("BLEU takes a list of captions and, for each, a list of references")
        if len(preds) != len(target) or not all(target):
            raise ValueError(f"{len(preds)} captions for {len(target)} images; each needs references")
        captions = [text.split() for text in preds]
        references = [[text.split() for text in texts] for texts in target]
        found = counts(captions, references, self.bleu.n_gram).sum(0)
        self.sums += torch.from_numpy(found).to(self.sums.device)

    def compute(self) -> dict[str, Tensor]:
        """`bleu1` to `bleuN`, between 0 and 1."""
        scores = self.bleu.scores(self.sums.cpu().numpy())
        return {name: torch.tensor(float(score)).nan_to_num(0.0) for name, score in scores.items()}
