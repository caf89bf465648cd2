"""Corpus BLEU."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.text import BLEUScore


class Bleu(BLEUScore):
    """Corpus BLEU-1..n (Papineni et al. 2002), as the COCO caption evaluation computes it.

    torchmetrics counts the n-grams, once for all n. This class adds what it leaves to its user: the
    cumulative scores for every n from one count, references sorted by length (of two equally near ones
    torchmetrics takes the first, COCO the shorter), and errors for inputs that it would silently score
    wrong.

    Captions and references must have been through the same tokenizer: words are separated by spaces.
    """

    def update(self, preds: Sequence[str], target: Sequence[Sequence[str]]) -> None:
        """Count the n-grams of captions and their references.

        Args:
            preds: one caption for each image.
            target: the references of each image, at least one.

        Raises:
            ValueError: a plain string for a list, lists of unequal length, an image without references.
        """
        if isinstance(preds, str) or any(isinstance(references, str) for references in target):
            raise ValueError("BLEU takes a list of captions and a list of lists of references")
        if len(preds) != len(target) or not all(target):
            raise ValueError(f"{len(preds)} captions for {len(target)} images, each with references")
        by_length = [sorted(references, key=lambda text: len(text.split())) for references in target]
        super().update(preds, by_length)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """`bleu1` .. `bleuN` between 0 and 1."""
        length = torch.exp(torch.clamp(1 - self.target_len / self.preds_len, max=0))  # brevity penalty
        scores = {}
        for n in range(1, self.n_gram + 1):
            precisions = self.numerator[:n] / self.denominator[:n]
            scores[f"bleu{n}"] = (length * precisions.log().mean().exp()).nan_to_num(0.0).squeeze()
        return scores
