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

COLDEST, HOTTEST = 1e-4, 1e4  # all but greedy, all but uniform; far beyond them logits have no end in fp32
ASKED_ON = ("cpu",)  # device types on which it costs nothing to ask whether all captions have ended


class Sampler:
    """Draws captions token by token, from numbers that it is given.

    Args:
        temperature: divides the logits; below 1 sharpens the distribution, above 1 flattens it.
        top_k: only the k most likely tokens may be drawn; 0 for all.
        top_p: only the most likely tokens that together reach this probability may be drawn (nucleus
            sampling, Holtzman et al. 2020); 1 for all. It applies after temperature and `top_k`.
        max_length: the maximum number of words.
        allow_unk: whether <unk> may be generated.
        min_length: the minimum number of words.
        no_repeat_ngram: n-grams of this length occur at most once in a caption; 0 for no limit.

    Attributes:
        max_length: as above.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        temperature: float,
        top_k: int,
        top_p: float,
        max_length: int,
        allow_unk: bool = False,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
    ) -> None:
        self.temperature = number("search.temperature", temperature, COLDEST, HOTTEST)
        self.top_k = whole("search.top_k", top_k, 0)
        self.top_p = number("search.top_p", top_p, above=0, at_most=1)
        self.max_length = longest(max_length, min_length)
        self.constraints = Constraints(min_length, no_repeat_ngram, allow_unk)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Any, draws_BKT: Tensor) -> Captions:
        """A caption for each row of draws, in their order.

        A score is the sum of the tokens' log-probabilities at temperature 1, constraints aside.

        Args:
            decoder: the decoder.
            memory_BPD: the images' memory.
            draws_BKT: uniform draws from [0, 1), one a token; a negative one takes the most likely token.
        """
        B, K, T = draws_BKT.shape
        draws_RT, device = draws_BKT.flatten(0, 1), draws_BKT.device
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
            if time == T - 1 or (device.type in ASKED_ON and done_R.all()):
                break
            logits_RV, state = decoder.step(tokens_R, state)
        return Captions(generated_RT.view(B, K, T), scores_R.view(B, K))

    def policy(self, logits_MV: Tensor) -> Tensor:
        """Logits of the distribution that is drawn from, before `top_k`, `top_p` and n-grams cut it."""
        return self.constraints.forbid(logits_MV.float() / self.temperature)

    def _draw(self, logp_RV: Tensor, draws_R: Tensor) -> Tensor:
        """The token at which the cumulative probabilities exceed the draw."""
        V, draws_R1 = logp_RV.shape[1], draws_R.unsqueeze(1)
        logits_RV, ranked_RV = logp_RV / self.temperature, None
        if self.top_k or self.top_p < 1:  # else no order is needed, and sorting takes longest
            logits_RV, ranked_RV = logits_RV.topk(min(self.top_k or V, V))
        share_RV = logits_RV.softmax(-1).nan_to_num(0.0)  # NaN where no token is allowed
        if self.top_p < 1:
            before_RV = share_RV.cumsum(-1) - share_RV
            share_RV = share_RV.masked_fill(before_RV >= self.top_p, 0)
        cumulative_RV = share_RV.cumsum(-1)
        index_R1 = torch.searchsorted(cumulative_RV, draws_R1 * cumulative_RV[:, -1:], right=True)
        index_R1 = index_R1.clamp_max(share_RV.shape[1] - 1)
        likeliest = share_RV.gather(1, index_R1) == 0  # <pad>, below all draws, or by rounding
        index_R1 = logits_RV.argmax(-1, keepdim=True).where(likeliest, index_R1)
        return (index_R1 if ranked_RV is None else ranked_RV.gather(1, index_R1)).squeeze(1)


class Sampling:
    """A search that samples captions.

    Draws depend on (seed, image) only, so an image's captions are the same in every batch.

    Args:
        samples: K, the number of captions drawn and returned for an image, most likely first.
        seed: the seed of the draws.
        settings: of the Sampler.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, samples: int, seed: int, **settings: Any) -> None:
        self.samples, self.seed = whole("search.samples", samples, 1), seed
        self.sampler = Sampler(**settings)

    def __call__(self, decoder: Decoder, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> Captions:
        """K captions an image, scored as the Sampler does.

        Args:
            decoder: the decoder.
            memory_BPD: the images' memory.
            ids: the images' ids, from which draws are seeded; None for their positions in the batch.
        """
        B, device = batch_of(memory_BPD)
        draws_BKT = self._draws(ids or [str(position) for position in range(B)]).to(device)
        drawn = self.sampler(decoder, memory_BPD, draws_BKT)
        scores_BK, order_BK = drawn.scores_BK.sort(dim=1, descending=True, stable=True)
        return Captions(take(drawn.tokens_BKT, order_BK), scores_BK)

    def _draws(self, ids: Sequence[ImageId]) -> Tensor:
        """Uniform draws_BKT, seeded image by image."""
        return torch.stack(
            [
                torch.rand(
                    self.samples,
                    self.sampler.max_length,
                    generator=torch.Generator().manual_seed(seed_of("sample", self.seed, id)),
                )
                for id in ids
            ]
        )
