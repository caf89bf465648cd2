"""From the places of an image to embeddings that a language model reads as a prefix.

Legend: B images, P places, D width, L embeddings of the prefix.
"""

from typing import Any

import torch
from torch import Tensor, nn

from autocaption.errors import UserError
from autocaption.models.decoders.transformer_layer import MemoryLayer
from autocaption.models.dropout import Dropout


class MLPMapper(nn.Module):
    """The places' mean through an MLP with a hidden layer (Mokady et al. 2021, section 3.2).

    Args:
        memory_dim: D of the memory.
        width: D of the embeddings.
        length: L.
        dropout: applied to the hidden layer.
    """

    def __init__(self, memory_dim: int, width: int, length: int, dropout: float) -> None:
        super().__init__()
        hidden = max(length * width // 2, 1)
        self.width = width
        self.up, self.down = nn.Linear(memory_dim, hidden), nn.Linear(hidden, length * width)
        self.dropout = Dropout(dropout)

    def forward(self, memory_BPD: Tensor) -> Tensor:
        """memory_BPD to prefix_BLD."""
        hidden_BD = self.up(memory_BPD.mean(1)).tanh()
        return self.down(self.dropout(hidden_BD)).unflatten(1, (-1, self.width))


class TransformerMapper(nn.Module):
    """A transformer over the projected places and L learnt constants, whose outputs are the prefix.

    Mokady et al. 2021, section 3.2, with the places of the memory where they have parts of one vector; each
    place gets a learnt embedding.

    Args:
        memory_dim: D of the memory.
        width: D of the embeddings, a multiple of `heads`.
        length: L.
        layers: transformer layers.
        heads: attention heads.
        max_places: the largest P.
        dropout: applied to what each block adds.
    """

    def __init__(
        self,
        memory_dim: int,
        width: int,
        length: int,
        layers: int,
        heads: int,
        max_places: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(
                f"model.decoder.mapper_heads={heads} doesn't divide the language model's width, {width}"
            )
        self.project = nn.Linear(memory_dim, width)
        self.places = nn.Parameter(torch.empty(max_places, width))
        self.constants = nn.Parameter(torch.empty(length, width))
        self.layers: Any = nn.ModuleList(MemoryLayer(width, heads, dropout) for _ in range(layers))
        for parameter in (self.places, self.constants):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, memory_BPD: Tensor) -> Tensor:
        """memory_BPD to prefix_BLD."""
        B, P, _ = memory_BPD.shape
        if len(self.places) < P:
            raise UserError(f"the encoder gives {P} places; set model.decoder.max_places={P} or more")
        places_BPD = self.project(memory_BPD) + self.places[:P]
        x_BSD = torch.cat([places_BPD, self.constants.expand(B, -1, -1)], 1)
        for layer in self.layers:
            x_BSD = layer(x_BSD)
        return x_BSD[:, P:]
