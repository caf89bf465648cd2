"""Self-critical training: the reward of captions that the model itself samples.

Legend: B images, K samples an image, T time, P places, D width, M tokens of the
samples, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autocaption.checks import choice, number, whole
from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.sources import ImageId
from autocaption.data.tensors import HostCopy, sent
from autocaption.data.tokenizer import BOS, EOS, PAD
from autocaption.errors import UserError
from autocaption.models.losses import CrossEntropy, teacher_forced
from autocaption.models.protocols import Captions, Decoder, Objective
from autocaption.models.sharding import is_sharded

BASELINES = ("others", "greedy")
Reward = Callable[[Sequence[ImageId], np.ndarray], np.ndarray]  # ids and tokens_BKT to rewards_BK


class Sampler(Protocol):
    """Draws captions (search/sampling.py)."""

    max_length: int

    def __call__(self, decoder: Decoder, memory_BPD: Any, draws_BKT: Tensor) -> Captions:
        """A caption for each row of uniform draws; negative ones give the most likely tokens."""
        ...

    def policy(self, logits_MV: Tensor) -> Tensor:
        """Logits of the distribution that is drawn from."""
        ...


@dataclass(frozen=True)
class Judged:
    """What the rewards of a batch say.

    Attributes:
        advantage_BK: reward less baseline of each sample.
        reward: their mean reward; likewise `baseline`.
        words: the mean length of the samples.
    """

    advantage_BK: Tensor
    reward: Tensor
    baseline: Tensor
    words: Tensor


class SelfCritical:
    """REINFORCE on a caption's reward above a baseline (Rennie et al. 2017), beside some cross-entropy.

    The objective is (1 - w) p + w c with w = `xe_weight` and c that of CrossEntropy. The mean over samples of

        p = -(reward - baseline) log p(sample | image)

    has the gradient of the expected reward, negated. The baseline is the mean reward of the image's other
    samples (Luo 2020), or that of its greedy caption (Rennie et al. 2017). It doesn't depend on the sample,
    and so doesn't change the mean gradient.

    The decoder samples in evaluation mode, so from the distribution that is evaluated; log p comes from a
    second pass with the decoder's dropout. Draws come from torch's generator, which the callback StepSeed
    seeds for each step.

    The device is waited for once a step, when the samples reach the host, which scores them while the device
    goes on with the second pass.

    Args:
        sampler: draws captions.
        samples: K, the number of samples an image.
        baseline: `others` or `greedy`.
        reward: scores captions (metrics/reward.py).
        xe_weight: w, the share of cross-entropy; 0 for none, which also saves its pass.
        label_smoothing: of the cross-entropy.

    Raises:
        UserError: a value is out of range, or there is no cross-entropy to smooth.
    """

    def __init__(
        self,
        sampler: Sampler,
        samples: int,
        baseline: str,
        reward: Reward,
        xe_weight: float,
        label_smoothing: float,
    ) -> None:
        self.sampler, self.reward = sampler, reward
        self.greedy = choice("model.loss.baseline", baseline, BASELINES) == "greedy"
        self.samples = whole("model.loss.samples", samples, 1 if self.greedy else 2)
        self.xe_weight = number("model.loss.xe_weight", xe_weight, at_least=0, at_most=1)
        self.cross_entropy = CrossEntropy(label_smoothing)
        if label_smoothing and not xe_weight:
            raise UserError(
                f"model.loss.label_smoothing={label_smoothing} is of the cross-entropy, which "
                "model.loss.xe_weight=0 leaves out; set one of them otherwise"
            )

    def __call__(
        self, decoder: Any, memory_BPD: Tensor, batch: Batch, sampled_share: float = 0.0
    ) -> Objective:
        """The samples' part is a mean over the images, that of cross-entropy one over their tokens.

        Raises:
            UserError: the weights are shared out to the ranks, or scheduled sampling has no cross-entropy.
        """
        if sampled_share and not self.xe_weight:
            raise UserError(
                "scheduled_sampling is of the cross-entropy, which model.loss.xe_weight=0 leaves out; set "
                "one of them otherwise"
            )
        if is_sharded(decoder):
            raise UserError("model/loss=self_critical can't sample under trainer=fsdp; take trainer=ddp")
        tokens_BKT = self._sample(decoder, memory_BPD)
        on_host = HostCopy(tokens_BKT)
        given = Objective()
        if self.xe_weight:
            given = self.cross_entropy(decoder, memory_BPD, batch, sampled_share)
        host_BKT = on_host.wait()
        lengths_BK = (host_BKT[:, : self.samples] != PAD).sum(2)
        nll_BK = self._nll(decoder, memory_BPD, tokens_BKT[:, : self.samples], lengths_BK)
        rewards_BK = self.reward(batch.ids, host_BKT)
        words = (host_BKT[:, : self.samples] > EOS).sum(2).mean()
        judged = sent(self._judged(rewards_BK, words), memory_BPD.device)
        return Objective(
            tokens=self.xe_weight * given.tokens,
            images=(1 - self.xe_weight) * (judged.advantage_BK * nll_BK).mean(),
            logged={
                **given.logged,
                "reward": judged.reward,
                "reward_baseline": judged.baseline,
                "sample_length": judged.words,
            },
        )

    def _sample(self, decoder: Any, memory_BPD: Tensor) -> Tensor:
        """tokens_BKT of the samples, and of the greedy caption where that is the baseline."""
        draws_BKT = torch.rand(
            len(memory_BPD), self.samples, self.sampler.max_length, device=memory_BPD.device
        )
        if self.greedy:
            draws_BKT = F.pad(draws_BKT, (0, 0, 0, 1), value=-1.0)
        with _evaluating(decoder):
            tokens_BKT = self.sampler(decoder, memory_BPD, draws_BKT).tokens_BKT
        torch.clear_autocast_cache()  # of weights without gradients, which older versions of torch use again
        return tokens_BKT

    def _nll(
        self, decoder: Decoder, memory_BPD: Tensor, tokens_BKT: Tensor, lengths_BK: np.ndarray
    ) -> Tensor:
        """-log p of each sample."""
        longest = max(int(lengths_BK.max()), 1)
        layout = sent(Layout.of_lengths(lengths_BK, longest), tokens_BKT.device)
        begun_BKT = F.pad(tokens_BKT[..., :longest], (1, 0), value=BOS)
        logits_MV, targets_M, _ = teacher_forced(decoder, memory_BPD, begun_BKT, layout)
        nll_M = F.cross_entropy(self.sampler.policy(logits_MV), targets_M, reduction="none")
        return layout.image_major.unpack(nll_M.unsqueeze(1)).sum((2, 3))

    def _judged(self, rewards_BK: np.ndarray, words: float) -> Judged:
        own_BK = rewards_BK[:, : self.samples]
        if self.greedy:
            baseline_BK = np.broadcast_to(rewards_BK[:, self.samples :], own_BK.shape)
        else:
            baseline_BK = (own_BK.sum(1, keepdims=True) - own_BK) / (self.samples - 1)
        values = own_BK - baseline_BK, own_BK.mean(), baseline_BK.mean(), words
        return Judged(*(torch.as_tensor(value, dtype=torch.float32) for value in values))


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
