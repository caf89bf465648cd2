"""Legend: B images, K candidates an image, T time, N words of an n-gram."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autocaption.checks import whole
from autocaption.data.sources import ImageId
from autocaption.data.tokenizer import EOS
from autocaption.models.protocols import Captions, Decoder
from autocaption.search.beam import BeamSearch
from autocaption.search.hypotheses import take

ORDERS = 4  # n-grams of 1 to 4 tokens
SIGMA = 6.0  # of the penalty for a difference in length, as in CIDEr-D
BASE = 0x1E3779B97F4A7C15  # of the polynomial that stands for an n-gram
LARGEST = 2**27  # pairs of n-grams that are compared at a time


class ConsensusSearch:
    """Of the captions of a wide beam, those that are most like all of them.

    The likeliest caption is often a short and general one. This search minimises the Bayes risk instead
    (Kumar and Byrne 2004; for captions, the consensus of Devlin et al. 2015): it orders the candidates of a
    beam search by their mean similarity to all candidates. The similarity, between 0 and 1, is CIDEr-D
    (Vedantam et al. 2015) without document frequencies, which a checkpoint doesn't hold: the cosine of the
    counts of n-grams, a mean over those of 1 to 4 tokens, less for captions of unequal length.

    Args:
        candidates: K, the beam size of the search that finds them; also the number of captions returned.
        settings: of the BeamSearch.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, candidates: int, **settings: Any) -> None:
        self.beam = BeamSearch(whole("search.candidates", candidates, 1), **settings)

    @torch.no_grad()
    def __call__(self, decoder: Decoder, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> Captions:
        """The candidates of each image, the one most like all of them first."""
        found = self.beam(decoder, memory_BPD, ids)
        exists_BK = found.scores_BK > -torch.inf
        similarity_BK = mean_similarity(found.tokens_BKT, exists_BK).masked_fill(~exists_BK, -torch.inf)
        scores_BK, order_BK = similarity_BK.sort(dim=1, descending=True, stable=True)
        logp_BK = found.log_probabilities(self.beam.length_penalty)
        return Captions(take(found.tokens_BKT, order_BK), scores_BK, logp_BK.gather(1, order_BK))


def mean_similarity(tokens_BKT: Tensor, exists_BK: Tensor) -> Tensor:
    """similarity_BK of each caption to the existing ones of its image, itself among them."""
    _, K, T = tokens_BKT.shape
    images = max(1, LARGEST // (K * T) ** 2)
    pieces = zip(tokens_BKT.split(images), exists_BK.split(images), strict=True)
    return torch.cat([_similarity(*piece) for piece in pieces])


def _similarity(tokens_BKT: Tensor, exists_BK: Tensor) -> Tensor:
    B, K, T = tokens_BKT.shape
    word_BKT = tokens_BKT > EOS
    words_BK = word_BKT.sum(2)
    gap_BKK = words_BK.unsqueeze(2) - words_BK.unsqueeze(1)
    cosine_BKK = torch.zeros(B, K, K, device=tokens_BKT.device)
    gram_BKT, real_BKT = tokens_BKT, word_BKT
    for N in range(1, min(ORDERS, T) + 1):
        if N > 1:
            gram_BKT = gram_BKT[..., :-1] * BASE + tokens_BKT[..., N - 1 :]
            real_BKT = real_BKT[..., :-1] & word_BKT[..., N - 1 :]
        cosine_BKK += _cosine(gram_BKT, real_BKT)
    near_BKK = torch.exp(-(gap_BKK.float() ** 2) / (2 * SIGMA**2))
    weight_B1K = exists_BK.unsqueeze(1) / exists_BK.sum(1).clamp_min(1)[:, None, None]
    return (cosine_BKK / ORDERS * near_BKK * weight_B1K).sum(2)


def _cosine(gram_BKT: Tensor, real_BKT: Tensor) -> Tensor:
    """cosine_BKK of the counts of n-grams, where a caption counts one no more often than the other has it."""
    same_BKTKT = gram_BKT[:, :, :, None, None] == gram_BKT[:, None, None]
    count_BKTK = (same_BKTKT & real_BKT[:, None, None]).sum(4).float()  # of each n-gram in each caption
    own_BKT1 = count_BKTK.diagonal(dim1=1, dim2=3).transpose(1, 2).unsqueeze(3)
    # An n-gram stands at as many places as it is counted, so its term is shared out among them.
    term_BKTK = torch.minimum(own_BKT1, count_BKTK) * count_BKTK / own_BKT1.clamp_min(1)
    product_BKK = (term_BKTK * real_BKT.unsqueeze(3)).sum(2)
    norm_BK = (own_BKT1.squeeze(3) * real_BKT).sum(2).sqrt()
    return product_BKK / (norm_BK.unsqueeze(2) * norm_BK.unsqueeze(1)).clamp_min(1)
