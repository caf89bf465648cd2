from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.text import BLEUScore


class Bleu(BLEUScore):
    """Corpus BLEU-1 to BLEU-n (Papineni et al. 2002) as in the COCO caption evaluation.

    torchmetrics (1.9) counts the n-grams. This adds what it lacks: every order from one count, the
    shorter of two references that are equally close in length (torchmetrics takes the first, hence the
    sorting), and errors for inputs that it would silently score wrong.

    Captions and references must have been tokenized alike: words are split at white space.
    """

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
        by_length = [sorted(references, key=lambda text: len(text.split())) for references in target]
        super().update(preds, by_length)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """`bleu1` to `bleuN`, between 0 and 1."""
        brevity_penalty = torch.exp(torch.clamp(1 - self.target_len / self.preds_len, max=0))
        scores = {}
        for n in range(1, self.n_gram + 1):
            precisions = self.numerator[:n] / self.denominator[:n]
            score = brevity_penalty * precisions.log().mean().exp()
            scores[f"bleu{n}"] = score.nan_to_num(0.0).squeeze()  # NaN: no n-gram was counted
        return scores
