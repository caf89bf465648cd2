"""What encoders, decoders and searches promise; a class needs no base but torch's Module.

Legend: B images, N captions an image, K beams or samples an image, T time, P places, D width,
V vocabulary; R rows of a search, B x K, those of an image side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import PAD
from autocaption.data.transforms import Fit, Interpolation


class Encoder(Protocol):
    """Pictures to memory.

    It may also have `layers`, as BackboneEncoder, for a learning rate that decays over them, and `sources`,
    as ConcatEncoder, for pictures that are prepared in several ways.

    Attributes:
        out_dim: D of the memory.
        grid_side: where the places are a square grid of the picture, row by row, the places of a side; None
            where they are anything else, such as one vector or two grids.
        image_size: pixels of a side of the pictures.
        mean: channel means of the pictures that the weights were trained on, of values from 0 to 1.
        std: their standard deviations, likewise.
        fit: how a picture becomes a square, unless `data.fit` says otherwise.
        crop_share: the share of the square's side that is kept: `image_size` over the side, in whole pixels,
            that a picture is resized to first. `data.crop_share` changes it.
        interpolation: of the resizing, unless `data.interpolation` says otherwise.
    """

    out_dim: int
    grid_side: int | None
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    fit: Fit
    crop_share: float
    interpolation: Interpolation

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """uint8 RGB to memory_BPD; P = 1 for a pooled vector."""
        ...


class Decoded(NamedTuple):
    """A decoder's output in training.

    Attributes:
        hidden_BNTD: the hidden state after each input token (the first is <bos>); undefined at <pad>.
        penalty: a regularisation term added to the objective but not to the nll, in nats a real token.
    """

    hidden_BNTD: Tensor
    penalty: Tensor | float = 0.0


class State(NamedTuple):
    """The state of a search: pytrees of tensors that search can reorder without knowing their meaning.

    Attributes:
        rows: tensors of the R rows, row first.
        images: tensors that all rows of an image share, image first; never copied to the rows. Row r
            belongs to image r // (R / B).
    """

    rows: Any
    images: Any


class Decoder(Protocol):
    """Memory to words, in parallel for training and word by word for search.

    `step` repeated gives what `head(forward)` gives.
    """

    def __call__(self, memory_BPD: Tensor, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """The hidden state after each input token.

        Args:
            memory_BPD: memory of the images.
            tokens_BNT: input tokens, <bos> first.
            layout: where the real ones lie; None to find out, which waits for the device.
        """
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D); separate, so that it is computed for real tokens only."""
        ...

    def init_state(self, memory_BPD: Tensor) -> State:
        """The state before <bos>, with one row an image."""
        ...

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word after these tokens, and the state with them."""
        ...


class Objective(NamedTuple):
    """What a training step minimises, the sum of two parts.

    What a batch counts in an optimizer step over several batches or ranks is the Captioner's concern; it has
    to know what each part is a mean of.

    Attributes:
        tokens: the part that is a mean over the batch's real tokens.
        images: the part that is a mean over its images.
        logged: values to log by name, as means of this batch.
    """

    tokens: Tensor | float = 0.0
    images: Tensor | float = 0.0
    logged: Mapping[str, Tensor] = {}

    def total(self, tokens: float = 1.0, images: float = 1.0) -> Tensor:
        """The sum, each part with its weight."""
        return torch.as_tensor(self.tokens * tokens + self.images * images)


class Criterion(Protocol):
    """What training minimises: `model.loss`."""

    def __call__(
        self, decoder: Decoder, memory_BPD: Tensor, batch: Batch, sampled_share: float = 0.0
    ) -> Objective:
        """The objective of a training batch.

        Args:
            decoder: the decoder in training mode.
            memory_BPD: memory of the batch's images.
            batch: the batch.
            sampled_share: the share of input tokens sampled from the model (scheduled sampling).
        """
        ...


@dataclass(frozen=True)
class Captions:
    """Captions that a search found, best first.

    Attributes:
        tokens_BKT: int64, without <bos>, with <eos> where the caption ended, then <pad>.
        scores_BK: scores that the captions are ordered by; -inf where there are fewer than K.
        logp_BK: sums of the tokens' log-probabilities, where the scores aren't made of them.
    """

    tokens_BKT: Tensor
    scores_BK: Tensor
    logp_BK: Tensor | None = None

    def log_probabilities(self, length_penalty: float) -> Tensor:
        """logp_BK, also where the scores are made of it.

        Args:
            length_penalty: of the search; 0 where its scores are sums.
        """
        if self.logp_BK is not None:
            return self.logp_BK
        lengths_BK = (self.tokens_BKT != PAD).sum(2).clamp_min(1)
        return self.scores_BK * lengths_BK**length_penalty

    @property
    def exist_BK(self) -> Tensor:
        """True for a caption that was found; the best one counts whatever its score."""
        best_K = torch.arange(self.scores_BK.shape[1], device=self.scores_BK.device) == 0
        return (self.scores_BK > -torch.inf) | best_K


@runtime_checkable
class Attentive(Protocol):
    """A decoder that can return its attention weights."""

    def attention(self, memory_BPD: Tensor, tokens_BT: Tensor) -> Tensor:
        """weights_BTP over the places, for the word after each token; one caption an image.

        The first token is <bos>. The weights of a token sum to 1; at <pad> they are 0.
        """
        ...
