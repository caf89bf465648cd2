"""Losses.

Legend: B images, N captions an image, T time, P places, D width, M real tokens, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.distributions import Beta
from torchmetrics import Metric

from autocaption.checks import number
from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import PAD
from autocaption.errors import UserError
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
    if label_smoothing:
        return Loss(*_Smoothed.apply(logits_MV, targets_M, label_smoothing))
    objective = F.cross_entropy(logits_MV.float(), targets_M)
    return Loss(objective, objective.detach())


class SplitLoss(Metric):
    """The nll of a split: the mean over the real tokens of all batches and ranks.

    Summed in double precision (`set_dtype`), so that the number of ranks doesn't matter.
    """

    nll: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Two sums, since MeanMetric(nan_strategy="disable") forgets its weights (torchmetrics 1.9).
        for name in ("nll", "tokens"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, nll: Tensor, tokens: int) -> None:
        """Add a batch: its mean, and the number of its tokens."""
        self.nll += nll * tokens
        self.tokens += tokens

    def compute(self) -> Tensor:
        """The mean, in single precision."""
        return (self.nll / self.tokens).float()


class _Smoothed(Function):
    """Smoothed cross-entropy and nll from one log-softmax, which the gradient overwrites.

    torch takes each of them from its own, and more tensors of M x V for the gradient, in 2.6 times the time.
    """

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, targets_M: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        logp_MV, targets_M1 = logits_MV.float().log_softmax(-1), targets_M.unsqueeze(1)
        nll = -logp_MV.gather(1, targets_M1).mean()
        ctx.save_for_backward(logp_MV, targets_M1)
        ctx.smoothing, ctx.dtype = smoothing, logits_MV.dtype
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll - smoothing * logp_MV.mean(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """softmax - (1 - smoothing) one-hot - smoothing / V, over M."""
        (logp_MV, targets_M1), (M, V) = ctx.saved_tensors, ctx.saved_tensors[0].shape
        share = grads[0] / M
        grad_MV = logp_MV.exp_().mul_(share).sub_(share * (ctx.smoothing / V))
        grad_MV.scatter_add_(1, targets_M1, (share * (ctx.smoothing - 1)).expand(M, 1))
        return grad_MV.to(ctx.dtype), None, None


def divergence(one_MV: Tensor, other_MV: Tensor) -> Tensor:
    """The mean of both Kullback-Leibler divergences between two models' logits, in nats a token."""
    one_MV, other_MV = one_MV.float().log_softmax(-1), other_MV.float().log_softmax(-1)
    return ((one_MV.exp() - other_MV.exp()) * (one_MV - other_MV)).sum(-1).mean() / 2


class CrossEntropy:
    """Cross-entropy of the training captions, with label smoothing (Szegedy et al. 2016).

    With R-Drop (Liang et al. 2021) a batch passes the decoder twice, with other dropout, and the objective is
    the mean of both passes and half of alpha times the divergence between them (eq. 4, halved).

    With mixup (Zhang et al. 2018) each image's memory is mixed with that of its neighbour in the batch, in
    shares s and 1 - s, and its objective is that of both images' captions in the same shares. s is drawn from
    Beta(alpha, alpha) once a batch, and is the larger of the two.

    Args:
        label_smoothing: the share of the target spread over the vocabulary; 0 for none.
        r_drop: alpha of R-Drop; 0 for a single pass.
        mixup: alpha of mixup; 0 for none.

    Raises:
        UserError: a value is out of range, or both R-Drop and mixup are asked for.
    """

    def __init__(self, label_smoothing: float, r_drop: float = 0.0, mixup: float = 0.0) -> None:
        self.label_smoothing = number("model.loss.label_smoothing", label_smoothing, at_least=0, below=1)
        self.r_drop = number("model.loss.r_drop", r_drop, at_least=0)
        self.mixup = number("model.loss.mixup", mixup, at_least=0)
        if r_drop and mixup:
            raise UserError("model.loss.r_drop and model.loss.mixup don't go together; set one of them to 0")

    def __call__(
        self, decoder: Decoder, memory_BPD: Tensor, batch: Batch, sampled_share: float = 0.0
    ) -> Objective:
        """A mean over the batch's real tokens, the decoder's penalty included."""
        share, own_BPD, other_BPD = 0.5, memory_BPD, memory_BPD
        if self.mixup:
            share = float(Beta(self.mixup, self.mixup).sample())
            share = max(share, 1 - share)
            own_BPD = share * memory_BPD + (1 - share) * memory_BPD.roll(1, 0)
            other_BPD = own_BPD.roll(-1, 0)  # of each image, the mixture that has the lesser share of it
        given = batch.tokens_BNT, batch.layout, sampled_share
        logits_MV, targets_M, penalty = teacher_forced(decoder, own_BPD, *given)
        objective, nll = cross_entropy(logits_MV, targets_M, self.label_smoothing)
        objective = objective + penalty
        if self.r_drop or self.mixup:
            again_MV, _, penalty = teacher_forced(decoder, other_BPD, *given)
            second = cross_entropy(again_MV, targets_M, self.label_smoothing)
            objective = share * objective + (1 - share) * (second.objective + penalty)
            if self.r_drop:
                objective = objective + self.r_drop / 2 * divergence(logits_MV, again_MV)
        return Objective(tokens=objective, logged={"loss": nll, "perplexity": nll.exp()})
