"""Up-Down.

Legend: B images, N captions an image, K rows an image, R = B x K rows, T time, P places, D width, V
vocabulary, M packed tokens (time-major), A width of keys and queries, G = 4 D gates in torch's order (i, f,
g, o).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from autocaption.data.packing import Layout, TimeMajor
from autocaption.data.tokenizer import PAD
from autocaption.models.decoders import require_sizes
from autocaption.models.decoders.logits import logits_of
from autocaption.models.decoders.lstm_cell import advance
from autocaption.models.decoders.unrolled import additive_weights, unroll
from autocaption.models.dropout import Dropout, WordDropout
from autocaption.models.protocols import Decoded, State

Rows = tuple[Tensor, Tensor, Tensor, Tensor]  # h_RD and c_RD of the attention LSTM, then of the language LSTM


class Memory(NamedTuple):
    """What a step needs of the images.

    Attributes:
        keys_BPA: keys of the places.
        values_BPD: their values.
        gates_BG: the part of the attention LSTM's gates that comes from the values' mean.
    """

    keys_BPA: Tensor
    values_BPD: Tensor
    gates_BG: Tensor


class UpDownDecoder(nn.Module):
    """The captioning model of Up-Down (Anderson et al. 2018, section 3.2), over the places of any memory.

    An attention LSTM reads the word, the mean of the memory and the language LSTM's last state (eq. 2). Its
    state is the query of an additive attention to the places (eq. 3-5). A language LSTM reads what was
    attended to and that state (eq. 6), and gives the words (eq. 7). The forget gates' biases start at 1
    (Jozefowicz et al. 2015).

    Args:
        vocab_size: V.
        memory_dim: D of the memory, which is first projected to the width of the LSTMs.
        embed_dim: D of the word embeddings.
        hidden_dim: D of both LSTMs.
        attention_dim: A.
        dropout: applied to the memory, the embedded words, and before the vocabulary projection.
        word_dropout: the share of input words replaced by <unk> in training.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        embed_dim: int,
        hidden_dim: int,
        attention_dim: int,
        dropout: float,
        word_dropout: float,
    ) -> None:
        super().__init__()
        require_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim, attention_dim=attention_dim)
        D = hidden_dim
        self.project, self.key = nn.Linear(memory_dim, D), nn.Linear(D, attention_dim)
        self.query = nn.Linear(D, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.word_gates, self.mean_gates = nn.Linear(embed_dim, 4 * D), nn.Linear(D, 4 * D, bias=False)
        self.attention_recur = nn.Linear(2 * D, 4 * D, bias=False)  # of the states of both
        self.language_gates = nn.Linear(3 * D, 4 * D)  # of the context and the states of both
        for gates in (self.word_gates, self.language_gates):
            nn.init.ones_(gates.bias[D : 2 * D])  # forget gates start open
        self.output = nn.Linear(D, vocab_size)
        self.dropout, self.word_dropout = Dropout(dropout), WordDropout(word_dropout)

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """The language LSTM's state after each input token; zero at <pad>."""
        packing = (layout or Layout.of(tokens_BNT)).time_major
        hidden_MD, _ = self._run(
            memory_BPD, self.dropout(self.embed(self.word_dropout(packing.pack(tokens_BNT)))), packing
        )
        return Decoded(packing.unpack(hidden_MD))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return logits_of(self.dropout(hidden), self.output.weight, self.output.bias)

    def init_state(self, memory_BPD: Tensor) -> State:
        """Both LSTMs' states, all zero, and the images' part of what follows."""
        memory = self._memory(memory_BPD)
        return State(self._zeros(memory), memory)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        gates_RG = self.word_gates(self.dropout(self.embed(tokens_R)))
        rows, _ = self._advance(gates_RG, *state.rows, *state.images)
        return self.head(rows[2]), State(rows, state.images)

    def attention(self, memory_BPD: Tensor, tokens_BT: Tensor) -> Tensor:
        """weights_BTP, the alphas of eq. 4."""
        tokens_B1T = tokens_BT.unsqueeze(1)
        packing = Layout.of(tokens_B1T).time_major
        _, alpha_MP = self._run(memory_BPD, self.embed(packing.pack(tokens_B1T)), packing)
        return packing.unpack(alpha_MP).squeeze(1)

    def _memory(self, memory_BPD: Tensor) -> Memory:
        values_BPD = self.project(self.dropout(memory_BPD))
        return Memory(self.key(values_BPD), values_BPD, self.mean_gates(values_BPD.mean(1)))

    def _zeros(self, memory: Memory) -> Rows:
        nothing_BD = memory.values_BPD.new_zeros(len(memory.values_BPD), memory.values_BPD.shape[2])
        return nothing_BD, nothing_BD, nothing_BD, nothing_BD

    def _run(self, memory_BPD: Tensor, embedded_MD: Tensor, packing: TimeMajor) -> tuple[Tensor, ...]:
        """hidden_MD and alpha_MP of every token."""
        memory = self._memory(memory_BPD)
        advance_all: Any = _compiled_step() if memory_BPD.is_cuda else UpDownDecoder._advance

        def step(gates_RG: Tensor, *rows: Tensor) -> tuple[Rows, tuple[Tensor, Tensor]]:
            after, alpha_RP = advance_all(self, gates_RG, *rows, *memory)
            return after, (after[2], alpha_RP)

        return unroll(step, self.word_gates(embedded_MD), self._zeros(memory), packing)

    def _advance(
        self,
        gates_RG: Tensor,
        seen_RD: Tensor,
        seen_cell_RD: Tensor,
        said_RD: Tensor,
        said_cell_RD: Tensor,
        keys_BPA: Tensor,
        values_BPD: Tensor,
        gates_BG: Tensor,
    ) -> tuple[Rows, Tensor]:
        """One time step of all rows: their states, and the attention weights alpha_RP.

        Args:
            gates_RG: the words' part of the attention LSTM's gates, biases included.
            seen_RD: the attention LSTM's hidden state; seen_cell_RD: its cell state.
            said_RD: the language LSTM's hidden state; said_cell_RD: its cell state.
            keys_BPA: as in Memory, like the two that follow.
        """
        B = len(keys_BPA)
        gates_RG = (gates_RG.view(B, -1, gates_RG.shape[1]) + gates_BG.unsqueeze(1)).flatten(0, 1)
        gates_RG = gates_RG + self.attention_recur(torch.cat([said_RD, seen_RD], 1))
        seen_RD, seen_cell_RD = advance(gates_RG, seen_cell_RD)
        alpha_BKP = additive_weights(self.query(seen_RD), keys_BPA, self.score)
        context_RD = (alpha_BKP @ values_BPD).flatten(0, 1)
        gates_RG = self.language_gates(torch.cat([context_RD, seen_RD, said_RD], 1))
        said_RD, said_cell_RD = advance(gates_RG, said_cell_RD)
        return (seen_RD, seen_cell_RD, said_RD, said_cell_RD), alpha_BKP.flatten(0, 1)


@functools.cache
def _compiled_step() -> Callable[..., Any]:
    return torch.compile(UpDownDecoder._advance)
