"""An ensemble of models behind the protocols of encoder and decoder.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary, M real tokens,
R rows of a search.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from autocaption.data.packing import Layout
from autocaption.models.protocols import Decoded, Decoder, Encoder, State

Memories = tuple[Tensor, ...]  # one from each encoder


class EnsembleEncoder(nn.Module):
    """Several encoders of the same pictures, each of which gets them as it wants them.

    Args:
        encoders: the encoders.
        windows: rows and columns in which an encoder's pictures lie in those of a batch (`data/stacked.py`).
    """

    def __init__(self, encoders: Sequence[Encoder], windows: Sequence[tuple[slice, slice]]) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleList(cast(Sequence[nn.Module], encoders))
        self.windows = tuple(windows)

    def forward(self, images_BCHW: Tensor) -> Memories:
        """The memory_BPD of each encoder."""
        pairs = zip(self.encoders, self.windows, strict=True)
        return tuple(encoder(images_BCHW[..., rows, columns]) for encoder, (rows, columns) in pairs)


class EnsembleDecoder(nn.Module):
    """Averages the probabilities of several decoders, word by word.

    Their hidden states differ in width, so `forward` already returns log-probabilities, for real tokens
    only, and `head` is the identity.

    Args:
        decoders: decoders with the same vocabulary.
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        super().__init__()
        self.decoders: Any = nn.ModuleList(cast(Sequence[nn.Module], decoders))

    def forward(self, memory: Tensor | Memories, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """Log-probabilities after each input token, instead of hidden states."""
        layout = layout or Layout.of(tokens_BNT)
        real = layout.image_major
        pairs = zip(self.decoders, self._memories(memory), strict=True)
        logp_MV = mean_log_probability(
            [decoder.head(real.pack(decoder(own, tokens_BNT, layout).hidden_BNTD)) for decoder, own in pairs]
        )
        return Decoded(real.unpack(logp_MV))

    def head(self, hidden: Tensor) -> Tensor:
        """The identity: log-probabilities are logits, too."""
        return hidden

    def init_state(self, memory: Tensor | Memories) -> State:
        """The members' states."""
        memories = self._memories(memory)
        states = [d.init_state(own) for d, own in zip(self.decoders, memories, strict=True)]
        return State([state.rows for state in states], [state.images for state in states])

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities of the next word, and the members' states."""
        logits, rows, images = [], [], []
        for decoder, *own in zip(self.decoders, *state, strict=True):
            logits_RV, after = decoder.step(tokens_R, State(*own))
            logits.append(logits_RV)
            rows.append(after.rows)
            images.append(after.images)
        return mean_log_probability(logits), State(rows, images)

    def _memories(self, memory: Any) -> Sequence[Tensor]:
        """A memory for each member; a single memory is shared by all."""
        return [memory] * len(self.decoders) if torch.is_tensor(memory) else memory


def mean_log_probability(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the members' probabilities."""
    together = torch.stack([part.float().log_softmax(-1) for part in logits])
    return together.logsumexp(0) - math.log(len(logits))
