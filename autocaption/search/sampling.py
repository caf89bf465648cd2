"""Legend: B images, K samples an image, R = B x K rows, T time, P places, D width, V vocabulary."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autocaption.checks import number, whole
from autocaption.data.sources import ImageId
from autocaption.data.tokenizer import EOS, PAD
from autocaption.models.protocols import Captions, Decoder
from autocaption.randomness import seed_of
from autocaption.search.constraints import Constraints, longest
from autocaption.search.hypotheses import take
from autocaption.search.state import batch_of, begin


class Sampling:
    """Samples captions token by token.

    Draws depend on (seed, image) only, so an image's captions are the same in every batch.

    Args:
        samples: K, the number of captions drawn and returned for an image, most likely first.
        seed: the seed of the draws.
        temperature: divides the logits; below 1 sharpens the distribution, above 1 flattens it.
        top_k: only the k most likely tokens may be drawn; 0 for all.
        top_p: only the most likely tokens that together reach this probability may be drawn (nucleus
            sampling, Holtzman et al. 2020); 1 for all. It applies after temperature and `top_k`.
        max_length: the maximum number of words.
        allow_unk: whether <unk> may be generated.
        min_length: the minimum number of words.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        samples: int,
        seed: int,
        temperature: float,
        top_k: int,
        top_p: float,
        max_length: int,
        allow_unk: bool = False,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
    ) -> None:
        self.samples, self.seed = whole("search.samples", samples, 1), seed
        self.temperature = number("search.temperature", temperature, above=0)
        self.top_k = whole("search.top_k", top_k, 0)
        self.top_p = number("search.top_p", top_p, above=0, at_most=1)
        self.max_length = longest(max_length, min_length)
        self.constraints = Constraints(min_length, no_repeat_ngram, allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> Captions:
        """K captions an image; a score is the sum of the tokens' log-probabilities at temperature 1.

        Args:
            decoder: the decoder.
            memory_BPD: the images' memory.
            ids: the images' ids, from which draws are seeded; None for their positions in the batch.
        """
        (B, device), K, T = batch_of(memory_BPD), self.samples, self.max_length
        draws_RT = self._draws(ids or [str(position) for position in range(B)]).to(device)
        logits_RV, state = begin(decoder, memory_BPD, K)
        done_R = torch.zeros(B * K, dtype=torch.bool, device=device)
        scores_R = torch.zeros(B * K, device=device)
        generated_RT = torch.zeros(B * K, T, dtype=torch.long, device=device)  # zero is <pad>
        for time in range(T):
            logp_RV = self.constraints.apply(logits_RV.float().log_softmax(-1), generated_RT[:, :time])
            tokens_R = self._draw(logp_RV, draws_RT[:, time])
            logp_R = logp_RV.gather(1, tokens_R.unsqueeze(1)).squeeze(1)
            scores_R += logp_R.masked_fill(done_R, 0)
            tokens_R = tokens_R.masked_fill(done_R | logp_R.isinf(), PAD)  # -inf: no token is allowed
            generated_RT[:, time] = tokens_R
            done_R |= (tokens_R == EOS) | logp_R.isinf()
            if time == T - 1 or done_R.all():
                break
            logits_RV, state = decoder.step(tokens_R, state)
        scores_BK, order_BK = scores_R.view(B, K).sort(dim=1, descending=True, stable=True)
        return Captions(take(generated_RT.view(B, K, T), order_BK), scores_BK)

    def _draws(self, ids: Sequence[ImageId]) -> Tensor:
        """Uniform draws_RT, seeded image by image."""
        return torch.cat(
            [
                torch.rand(
                    self.samples,
                    self.max_length,
                    generator=torch.Generator().manual_seed(seed_of("sample", self.seed, id)),
                )
                for id in ids
            ]
        )

    def _draw(self, logp_RV: Tensor, draws_R: Tensor) -> Tensor:
        """The token at which the cumulative probabilities, largest first, exceed the draw."""
        count = min(self.top_k or logp_RV.shape[1], logp_RV.shape[1])
        logits_RV, tokens_RV = (logp_RV / self.temperature).topk(count)
        probabilities_RV = logits_RV.softmax(-1).nan_to_num(0.0)  # NaN where no token is allowed
        before_RV = probabilities_RV.cumsum(-1) - probabilities_RV
        probabilities_RV = probabilities_RV.masked_fill(before_RV >= self.top_p, 0)
        cumulative_RV = probabilities_RV.cumsum(-1)
        target_R1 = draws_R.unsqueeze(1) * cumulative_RV[:, -1:]
        index_R1 = torch.searchsorted(cumulative_RV, target_R1, right=True)
        last_R1 = (probabilities_RV > 0).sum(-1, keepdim=True).sub(1).clamp_min(0)  # against rounding
        return tokens_RV.gather(1, index_R1.minimum(last_R1)).squeeze(1)
