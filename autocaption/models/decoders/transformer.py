"""Legend: B images, N captions an image, T time, P places, D width, V vocabulary, L layers, H heads,
E = D / H; M real tokens, R rows, which are B x N captions or, in search, images or beams.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocaption.data.tokenizer import PAD

State = dict[str, Tensor]


class Layout(NamedTuple):
    """Where the M real tokens of a batch lie among its R x T places."""

    place_M: Tensor
    shape_BNT: torch.Size

    def spread(self, packed_MD: Tensor) -> Tensor:
        """The tokens at their places, (B, N, T, D); zero at <pad>."""
        B, N, T = self.shape_BNT
        spread = packed_MD.new_zeros(B * N * T, packed_MD.shape[-1])
        spread[self.place_M] = packed_MD
        return spread.view(B, N, T, -1)

    def pack(self, spread: Tensor) -> Tensor:
        """The real tokens of (..., D), in order."""
        return spread.flatten(0, -2)[self.place_M]


class Block(nn.Module):
    """Self-attention, attention to the memory, and a feed-forward layer, each normalised before.

    Projections and feed-forward see real tokens only; the two attentions themselves, a few percent
    of the work, run on padded rows, where torch's fused kernels apply. No dropout within the
    attentions, since those kernels have none on a CPU.
    """

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_memory, self.norm_ff = (nn.LayerNorm(dim) for _ in range(3))
        self.qkv, self.out_self = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out_memory = nn.Linear(dim, dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, feedforward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feedforward, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def remember(self, memory_BPD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, P, E) of the memory, once an image."""
        key_BPD, value_BPD = self.key_value(memory_BPD).chunk(2, dim=-1)
        return self._split(key_BPD), self._split(value_BPD)

    def forward(self, x_MD: Tensor, layout: Layout, memory: tuple[Tensor, Tensor]) -> Tensor:
        """All tokens of all captions at once."""

        def own(q_MD: Tensor, k_MD: Tensor, v_MD: Tensor) -> Tensor:
            q, k, v = (self._split(layout.spread(part).flatten(0, 1)) for part in (q_MD, k_MD, v_MD))
            return layout.pack(self._join(F.scaled_dot_product_attention(q, k, v, is_causal=True)))

        def other(q_MD: Tensor) -> Tensor:
            q_BHSE = self._split(layout.spread(q_MD).flatten(1, 2))  # S = N x T: one image's captions
            return layout.pack(self._join(F.scaled_dot_product_attention(q_BHSE, *memory)))

        return self._sublayers(x_MD, own, other)

    def step(
        self, x_RD: Tensor, before: Tensor | None, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One token a row; `before` and what is returned hold keys and values (R, 2, H, T, E) so far."""
        kept: list[Tensor] = []

        def own(q_RD: Tensor, k_RD: Tensor, v_RD: Tensor) -> Tensor:
            new_R2H1E = torch.stack([self._split(part.unsqueeze(1)) for part in (k_RD, v_RD)], 1)
            cache_R2HTE = new_R2H1E if before is None else torch.cat([before, new_R2H1E], dim=3)
            kept.append(cache_R2HTE)
            q_RH1E, (k_RHTE, v_RHTE) = self._split(q_RD.unsqueeze(1)), cache_R2HTE.unbind(1)
            return self._join(F.scaled_dot_product_attention(q_RH1E, k_RHTE, v_RHTE)).squeeze(1)

        def other(q_RD: Tensor) -> Tensor:
            q_RH1E = self._split(q_RD.unsqueeze(1))
            return self._join(F.scaled_dot_product_attention(q_RH1E, *memory)).squeeze(1)

        return self._sublayers(x_RD, own, other), kept[0]

    def _sublayers(self, x: Tensor, own: Callable[..., Tensor], other: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + self.dropout(self.out_self(own(*self.qkv(self.norm_self(x)).chunk(3, dim=-1))))
        x = x + self.dropout(self.out_memory(other(self.query(self.norm_memory(x)))))
        return x + self.dropout(self.feedforward(self.norm_ff(x)))

    def _split(self, x_RTD: Tensor) -> Tensor:
        return x_RTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, x_RHTE: Tensor) -> Tensor:
        return x_RHTE.transpose(1, 2).flatten(2)


class TransformerDecoder(nn.Module):
    """A pre-norm transformer over the places of the memory (Vaswani et al. 2017; Xiong et al. 2020).

    Word embeddings are tied to the vocabulary projection (Press & Wolf 2017); the places of the
    memory and the positions of the words have learnt embeddings.

    Args:
        vocab_size: V.
        memory_dim: D of the encoder's memory.
        dim: D of the transformer.
        heads: H.
        layers: L.
        memory_layers: self-attention layers over the projected memory.
        feedforward: width of the feed-forward layers.
        dropout: of every sublayer, the embedded words and the projected memory.
        memory_dropout: of the encoder's memory itself.
        max_places: the largest P.
        max_length: the most words of a caption.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        dim: int,
        heads: int,
        layers: int,
        memory_layers: int,
        feedforward: int,
        dropout: float,
        memory_dropout: float,
        max_places: int,
        max_length: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=dim**-0.5)
        self.position = nn.Parameter(torch.randn(max_length + 1, dim) * dim**-0.5)
        self.place = nn.Parameter(torch.randn(max_places, dim) * dim**-0.5)
        self.dropout, self.memory_dropout = nn.Dropout(dropout), nn.Dropout(memory_dropout)
        self.project, self.norm_memory = nn.Linear(memory_dim, dim), nn.LayerNorm(dim)
        self.memory_layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, feedforward, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(memory_layers)
        )
        self.blocks = nn.ModuleList(Block(dim, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.scale = dim**0.5

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor) -> Tensor:
        """hidden_BNTD after each input token; zero at <pad>."""
        (place_M,) = (tokens_BNT.flatten() != PAD).nonzero(as_tuple=True)
        layout = Layout(place_M, tokens_BNT.shape)
        time_M = place_M % tokens_BNT.shape[-1]
        x_MD = self._embedded(tokens_BNT.flatten()[place_M], self.position[time_M])
        memory_BPD = self._memory(memory_BPD)
        for block in self.blocks:
            x_MD = block(x_MD, layout, block.remember(memory_BPD))  # type: ignore[operator]
        return layout.spread(self.norm(x_MD))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return F.linear(hidden, self.embed.weight, self.bias)

    def init_state(self, memory_BPD: Tensor) -> State:
        """The memory's keys and values (B, L, 2, H, P, E)."""
        memory_BPD = self._memory(memory_BPD)
        kept = [torch.stack(block.remember(memory_BPD), 1) for block in self.blocks]  # type: ignore[operator]
        return {"memory": torch.stack(kept, 1)}

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens' keys and values (R, L, 2, H, T, E)."""
        words = state.get("words")
        time = 0 if words is None else words.shape[4]
        x_RD, kept = self._embedded(tokens_R, self.position[time]), []
        for i, block in enumerate(self.blocks):
            memory = state["memory"][:, i].unbind(1)
            x_RD, cache = block.step(x_RD, None if words is None else words[:, i], memory)  # type: ignore[operator]
            kept.append(cache)
        return self.head(self.norm(x_RD)), {**state, "words": torch.stack(kept, 1)}

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(self.embed(tokens) * self.scale + positions * self.scale)

    def _memory(self, memory_BPD: Tensor) -> Tensor:
        memory_BPD = self.project(self.memory_dropout(memory_BPD))
        memory_BPD = self.dropout(
            self.norm_memory(memory_BPD) + self.place[: memory_BPD.shape[1]] * self.scale
        )
        for layer in self.memory_layers:
            memory_BPD = layer(memory_BPD)
        return memory_BPD
