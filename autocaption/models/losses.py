"""Losses.

Legend: M real tokens, V vocabulary.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from autocaption.checks import number


class Loss(NamedTuple):
    """The objective to minimise, and the negative log-likelihood (nll); means over these real tokens.

    What a batch's means count in an optimizer step over several batches or ranks is the Captioner's concern.
    """

    objective: Tensor
    nll: Tensor


class CrossEntropy(nn.Module):
    """Cross-entropy in nats a token, with label smoothing (Szegedy et al. 2016).

    Args:
        label_smoothing: the share of the target spread over the vocabulary; 0 for none.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = number("model.loss.label_smoothing", label_smoothing, at_least=0, below=1)

    def forward(self, logits_MV: Tensor, targets_M: Tensor) -> Loss:
        """The loss of these tokens; the nll is never smoothed and carries no gradient."""
        logits_MV = logits_MV.float()
        objective = F.cross_entropy(logits_MV, targets_M, label_smoothing=self.label_smoothing)
        if self.label_smoothing == 0:
            return Loss(objective, objective.detach())
        return Loss(objective, F.cross_entropy(logits_MV.detach(), targets_M))
