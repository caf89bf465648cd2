"""A transformer decoder.

Legend: B images, N captions an image, T time, P places, L levels of the memory, D width, V vocabulary, M
real tokens, R = B x K rows of a search, S tokens that the rows of an image have generated.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from autocaption.checks import number, whole
from autocaption.data.packing import Layout
from autocaption.errors import UserError
from autocaption.models.decoders import MOST_LAYERS, require_sizes
from autocaption.models.decoders.logits import logits_of
from autocaption.models.decoders.transformer_layer import KeysValues, MemoryLayer, TransformerLayer
from autocaption.models.dropout import Dropout, WordDropout
from autocaption.models.protocols import Decoded, State


class TransformerDecoder(nn.Module):
    """A transformer over the places of the memory (Vaswani et al. 2017), norms before the blocks.

    Each place of the projected memory gets a learnt embedding; optional encoder layers let places attend
    to each other. With memory slots, and a level for each encoder layer, this is the Meshed-Memory
    Transformer (Cornia et al. 2020) but for where its norms are: `model/decoder=m2`. Word embeddings are
    shared with the vocabulary projection (Press & Wolf 2017), and their positions are encoded by sinusoids
    (Vaswani et al. 2017, section 3.5), which set captions no limit. Layer norms come before the blocks and
    after the last, levels share theirs (Xiong et al. 2020). Matrices are initialised by Glorot & Bengio
    (2010), embeddings and slots from N(0, 1 / D).

    Args:
        vocab_size: V.
        memory_dim: D of the memory.
        width: D of all layers, a multiple of `heads`.
        heads: H, attention heads.
        layers: decoder layers.
        memory_layers: encoder layers over the memory; 0 for none.
        max_places: the largest P.
        dropout: applied to embedded words and to what each block adds (Vaswani et al. 2017, section 5.4).
        memory_dropout: applied to the memory before its projection.
        word_dropout: the share of input words replaced by <unk> in training.
        memory_slots: learnt keys and values that the places of an encoder layer attend to, too; 0 for none.
        memory_levels: L, the number of encoder layers that the decoder reads, the last ones; several through
            gates.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        width: int,
        heads: int,
        layers: int,
        memory_layers: int,
        max_places: int,
        dropout: float,
        memory_dropout: float,
        word_dropout: float,
        memory_slots: int = 0,
        memory_levels: int = 1,
    ) -> None:
        super().__init__()
        require_sizes(width=width, heads=heads, max_places=max_places)
        whole("model.decoder.layers", layers, 1, MOST_LAYERS)
        whole("model.decoder.memory_layers", memory_layers, 0, MOST_LAYERS)
        whole("model.decoder.memory_levels", memory_levels, 1, max(1, memory_layers))
        whole("model.decoder.memory_slots", memory_slots, 0)
        number("model.decoder.memory_dropout", memory_dropout, at_least=0, below=1)
        if memory_slots and not memory_layers:
            raise UserError(
                f"model.decoder.memory_slots={memory_slots} belong to encoder layers; set memory_layers"
            )
        if width % heads or width % 2:
            raise UserError(f"model.decoder.width={width} is not an even multiple of heads={heads}")
        self.project = nn.Linear(memory_dim, width)
        self.memory_dropout = Dropout(memory_dropout)
        self.places = nn.Parameter(torch.empty(max_places, width))
        self.heads, self.levels = heads, memory_levels
        self.memory_layers = nn.ModuleList(
            MemoryLayer(width, heads, dropout, memory_slots) for _ in range(memory_layers)
        )
        self.memory_norm = nn.LayerNorm(width)
        self.embed = nn.Embedding(vocab_size, width)
        self.layers: Any = nn.ModuleList(
            TransformerLayer(width, heads, dropout, memory_levels) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.dropout, self.word_dropout = Dropout(dropout), WordDropout(word_dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        nn.init.normal_(self.places, std=0.02)

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """The hidden state after each input token; zero at <pad>."""
        packing = (layout or Layout.of(tokens_BNT)).image_major
        x_MD = self._embed(self.word_dropout(packing.pack(tokens_BNT)), packing.time_M)
        for layer, memory in zip(self.layers, self._memory(memory_BPD), strict=True):
            x_MD = layer(x_MD, packing, memory)
        return Decoded(packing.unpack(self.norm(x_MD)))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return logits_of(hidden, self.embed.weight, self.bias)

    def init_state(self, memory_BPD: Tensor) -> State:
        """An empty cache, and every layer's keys and values of the memory.

        Generated tokens are cached once an image, in the order of generation, and each row keeps the
        positions of its own tokens in that cache. So search reorders a few indices, not the caches.
        """
        # Contiguous, since attention would copy them at every step.
        memory = [(keys.contiguous(), values.contiguous()) for keys, values in self._memory(memory_BPD)]
        past = [tuple(part[:, : self.heads, :0] for part in keys_values) for keys_values in memory]
        empty_R0 = torch.zeros(len(memory_BPD), 0, dtype=torch.long, device=memory_BPD.device)
        return State(empty_R0, (past, memory))

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        own_RT, (past, memory) = state
        B, _, before, _ = past[0][0].shape
        K = len(tokens_R) // B
        positions_R = before + torch.arange(K, device=tokens_R.device).repeat(B)
        x_RD = self._embed(tokens_R, tokens_R.new_full((1,), own_RT.shape[1]))  # new_tensor would wait
        own_RT = torch.cat([own_RT, positions_R.unsqueeze(1)], 1)
        mask_RS = torch.full((B * K, before + K), -torch.inf, device=tokens_R.device)
        mask_BKS = mask_RS.scatter_(1, own_RT, 0.0).view(B, K, -1)
        x_BKD, caches = x_RD.view(B, K, -1), []
        for layer, cache, keys_values in zip(self.layers, past, memory, strict=True):
            x_BKD, cache = layer.step(x_BKD, cache, mask_BKS, keys_values)
            caches.append(cache)
        return self.head(self.norm(x_BKD).flatten(0, 1)), State(own_RT, (caches, memory))

    def attention(self, memory_BPD: Tensor, tokens_BT: Tensor) -> Tensor:
        """weights_BTP of the last layer, the mean of its heads' at all levels."""
        tokens_B1T = tokens_BT.unsqueeze(1)
        packing = Layout.of(tokens_B1T).image_major
        x_MD = self._embed(packing.pack(tokens_B1T), packing.time_M)
        *before, last = zip(self.layers, self._memory(memory_BPD), strict=True)
        for layer, memory in before:
            x_MD = layer(x_MD, packing, memory)
        return packing.unpack(last[0].weights(x_MD, packing, last[1])).squeeze(1)

    def _memory(self, memory_BPD: Tensor) -> list[KeysValues]:
        """The keys and values of every layer."""
        P = memory_BPD.shape[1]
        if len(self.places) < P:
            raise UserError(f"the encoder gives {P} places; set model.decoder.max_places={P} or more")
        levels = [self.project(self.memory_dropout(memory_BPD)) + self.places[:P]]
        for layer in self.memory_layers:
            levels.append(layer(levels[-1]))
        x_BLPD = self.dropout(self.memory_norm(torch.stack(levels[-self.levels :], 1)))
        return [layer.keys_values(x_BLPD) for layer in self.layers]

    def _embed(self, tokens_M: Tensor, time_M: Tensor) -> Tensor:
        x_MD = self.embed(tokens_M) * math.sqrt(self.embed.embedding_dim)
        return self.dropout(x_MD + sinusoids(time_M, x_MD.shape[-1]).to(x_MD.dtype))


def sinusoids(time_M: Tensor, width: int) -> Tensor:
    """Encodings (M, D) of positions: sines, then cosines, of wavelengths from 2 pi to 20,000 pi."""
    rates_D = torch.exp(torch.arange(width // 2, device=time_M.device) * (-2 * math.log(10_000) / width))
    angles_MD = time_M.unsqueeze(-1) * rates_D
    return torch.cat([angles_MD.sin(), angles_MD.cos()], -1)
