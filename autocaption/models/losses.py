"""Losses.

Legend: B images, N captions an image, T time, P places, D width, M real tokens, V vocabulary.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from autocaption.checks import number
from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import PAD
from autocaption.models.protocols import Decoder, Objective
from autocaption.models.scheduled_sampling import scheduled_inputs


class Forced(NamedTuple):
    """What a decoder says of given captions (teacher forcing).

    Attributes:
        logits_MV: logits of the real tokens.
        targets_M: the tokens themselves.
        penalty: the decoder's own part of the objective.
    """

    logits_MV: Tensor
    targets_M: Tensor
    penalty: Tensor | float


def teacher_forced(
    decoder: Decoder,
    memory_BPD: Tensor,
    tokens_BNT: Tensor,
    layout: Layout | None = None,
    sampled_share: float = 0.0,
) -> Forced:
    """Decode given captions.

    Args:
        decoder: the decoder.
        memory_BPD: memory of the images.
        tokens_BNT: their captions, from <bos> to <eos>.
        layout: where their input tokens lie; None to find out, which waits for the device.
        sampled_share: the share of input tokens sampled from the model; 0 for teacher forcing.
    """
    targets_BNT = tokens_BNT[..., 1:]
    layout = layout or Layout.of(targets_BNT)
    inputs_BNT = tokens_BNT[..., :-1] * (targets_BNT != PAD)  # <eos> is no input (<pad> is 0)
    inputs_BNT = scheduled_inputs(decoder, memory_BPD, inputs_BNT, sampled_share, layout)
    hidden_BNTD, penalty = decoder(memory_BPD, inputs_BNT, layout)
    real = layout.image_major
    return Forced(decoder.head(real.pack(hidden_BNTD)), real.pack(targets_BNT), penalty)


class Loss(NamedTuple):
    """The objective to minimise, and the negative log-likelihood (nll); means over these real tokens.

    What a batch's means count in an optimizer step over several batches or ranks is the Captioner's concern.
    """

    objective: Tensor
    nll: Tensor


def cross_entropy(logits_MV: Tensor, targets_M: Tensor, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy in nats a token; the nll is never smoothed and carries no gradient."""
    logits_MV = logits_MV.float()
    objective = F.cross_entropy(logits_MV, targets_M, label_smoothing=label_smoothing)
    if label_smoothing == 0:
        return Loss(objective, objective.detach())
    return Loss(objective, F.cross_entropy(logits_MV.detach(), targets_M))


class CrossEntropy:
    """Cross-entropy of the training captions, with label smoothing (Szegedy et al. 2016).

    Args:
        label_smoothing: the share of the target spread over the vocabulary; 0 for none.
    """

    def __init__(self, label_smoothing: float) -> None:
        self.label_smoothing = number("model.loss.label_smoothing", label_smoothing, at_least=0, below=1)

    def __call__(
        self, decoder: Decoder, memory_BPD: Tensor, batch: Batch, sampled_share: float = 0.0
    ) -> Objective:
        """A mean over the batch's real tokens, the decoder's penalty included."""
        logits_MV, targets_M, penalty = teacher_forced(
            decoder, memory_BPD, batch.tokens_BNT, batch.layout, sampled_share
        )
        loss = cross_entropy(logits_MV, targets_M, self.label_smoothing)
        logged = {"loss": loss.nll, "perplexity": loss.nll.exp()}
        return Objective(tokens=loss.objective + penalty, logged=logged)
