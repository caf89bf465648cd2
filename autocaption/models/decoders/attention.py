"""Show, Attend and Tell.

Legend: B images, N captions an image, K beams an image, T time, P places, D width, V vocabulary,
M real tokens, R rows of a search or of a batch's captions; A, C, G as in attention_recurrence.py.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autocaption.checks import number
from autocaption.data.packing import Layout, TimeMajor
from autocaption.data.tokenizer import PAD
from autocaption.models.decoders import require_sizes
from autocaption.models.decoders.attention_recurrence import Weights, attend
from autocaption.models.decoders.logits import logits_of
from autocaption.models.decoders.lstm_cell import advance
from autocaption.models.decoders.unrolled import additive_weights, unroll
from autocaption.models.dropout import Dropout, WordDropout
from autocaption.models.protocols import Decoded, State

Pair = tuple[Tensor, Tensor]
HAND_WRITTEN_ON = ("cpu",)  # device types on which attention_recurrence.py is faster than autograd


class AttentionDecoder(nn.Module):
    """Show, Attend and Tell with soft attention (Xu et al. 2015).

    An LSTM that starts from the mean of the memory (section 3.1.2) attends to the places for each word, by
    additive attention with a scalar gate (4.2.1); a deep output layer combines word, state and context
    (eq. 7). The doubly stochastic regularisation (eq. 14), which asks that each place's weights add up to
    1 over a caption, is returned as the penalty. The forget gate's bias starts at 1 (Jozefowicz et al. 2015).

    Args:
        vocab_size: V.
        memory_dim: D of the memory, which is first projected to the width of the LSTM.
        embed_dim: D of word embeddings and of the deep output layer.
        hidden_dim: D of the LSTM.
        attention_dim: A, of keys and queries.
        dropout: applied to the memory, the embedded words, the LSTM's output, and before the vocabulary
            projection.
        doubly_stochastic: lambda of eq. 14, for a loss that is a sum over a caption's words.
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
        doubly_stochastic: float,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim, attention_dim=attention_dim)
        number("model.decoder.doubly_stochastic", doubly_stochastic, at_least=0)
        D = hidden_dim
        self.project, self.key = nn.Linear(memory_dim, D), nn.Linear(D, attention_dim)
        self.query = nn.Linear(D, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.gate = nn.Linear(D, 1)
        self.init_hidden, self.init_cell = nn.Linear(D, D), nn.Linear(D, D)
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.word_gates, self.recur = nn.Linear(embed_dim, 4 * D), nn.Linear(2 * D, 4 * D, bias=False)
        nn.init.normal_(self.embed.weight, std=embed_dim**-0.5)
        nn.init.ones_(self.word_gates.bias[D : 2 * D])  # forget gates start open
        self.from_hidden, self.from_context = nn.Linear(D, embed_dim), nn.Linear(D, embed_dim)
        self.output = nn.Linear(embed_dim, vocab_size)
        self.dropout, self.word_dropout = Dropout(dropout), WordDropout(word_dropout)
        self.doubly_stochastic = doubly_stochastic

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """The hidden state after each input token, zero at <pad>, and the penalty."""
        packing = (layout or Layout.of(tokens_BNT)).time_major
        embedded_MD = self.dropout(self.embed(self.word_dropout(packing.pack(tokens_BNT))))
        hidden_MD, context_MC, alpha_MP = self._run(memory_BPD, embedded_MD, packing)
        hidden_BNTD = packing.unpack(self._deepen(embedded_MD, hidden_MD, context_MC))
        given_RP = alpha_MP.new_zeros(len(packing.order_R), alpha_MP.shape[1])
        given_RP = given_RP.index_add(0, packing.row_M, alpha_MP)[: packing.rows_T[0]]
        penalty = self.doubly_stochastic * (1 - given_RP).square().sum() / len(alpha_MP)
        return Decoded(hidden_BNTD, penalty)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return logits_of(self.dropout(hidden), self.output.weight, self.output.bias)

    def init_state(self, memory_BPD: Tensor) -> State:
        """The LSTM's states, and keys and values of the memory."""
        return State(*self._start(memory_BPD))

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        embedded_RD = self.dropout(self.embed(tokens_R))
        h_RD, c_RD, context_RC, _ = self._advance(self.word_gates(embedded_RD), *state.rows, *state.images)
        logits_RV = self.head(self._deepen(embedded_RD, h_RD, context_RC))
        return logits_RV, State((h_RD, c_RD), state.images)

    def _advance(
        self, gates_RG: Tensor, h_RD: Tensor, c_RD: Tensor, keys_BPA: Tensor, values_BPC: Tensor
    ) -> tuple[Tensor, ...]:
        """One time step of all rows: h_RD, c_RD, the gated context_RC and the attention weights alpha_RP.

        Args:
            gates_RG: the words' part of the gates, biases included; each image has R / B rows.
            h_RD: the hidden state before the step, c_RD the cell state.
            keys_BPA: keys of the memory; values_BPC: its values.
        """
        alpha_BKP = additive_weights(self.query(h_RD), keys_BPA, self.score)
        context_RC = self.gate(h_RD).sigmoid() * (alpha_BKP @ values_BPC).flatten(0, 1)
        gates_RG = gates_RG + self.recur(torch.cat([context_RC, h_RD], 1))
        return *advance(gates_RG, c_RD), context_RC, alpha_BKP.flatten(0, 1)

    def attention(self, memory_BPD: Tensor, tokens_BT: Tensor) -> Tensor:
        """weights_BTP, the alphas of eq. 5."""
        tokens_B1T = tokens_BT.unsqueeze(1)
        packing = Layout.of(tokens_B1T).time_major
        alpha_MP = self._run(memory_BPD, self.embed(packing.pack(tokens_B1T)), packing)[2]
        return packing.unpack(alpha_MP).squeeze(1)

    def _start(self, memory_BPD: Tensor) -> tuple[Pair, Pair]:
        """The LSTM's states before <bos>; keys and values."""
        values_BPC = self.project(self.dropout(memory_BPD))
        mean_BC = values_BPC.mean(1)
        states = self.init_hidden(mean_BC).tanh(), self.init_cell(mean_BC).tanh()
        return states, (self.key(values_BPC), values_BPC)

    def _run(self, memory_BPD: Tensor, embedded_MD: Tensor, packing: TimeMajor) -> tuple[Tensor, ...]:
        """hidden_MD, the gated context_MC and alpha_MP of every token."""
        states, memory = self._start(memory_BPD)
        if memory_BPD.device.type not in HAND_WRITTEN_ON:
            advance_all: Any = _compiled_step() if memory_BPD.is_cuda else AttentionDecoder._advance

            def step(gates_RG: Tensor, *rows: Tensor) -> tuple[Pair, tuple[Tensor, ...]]:
                h_RD, c_RD, context_RC, alpha_RP = advance_all(self, gates_RG, *rows, *memory)
                return (h_RD, c_RD), (h_RD, context_RC, alpha_RP)

            return unroll(step, self.word_gates(embedded_MD), states, packing)
        weights = Weights(
            query_AD=self.query.weight,
            score_A=self.score.weight.squeeze(0),
            gate_D=self.gate.weight.squeeze(0),
            gate_1=self.gate.bias,
            recur_GX=self.recur.weight,
        )
        return attend(self.word_gates(embedded_MD), memory, states, weights, packing)

    def _deepen(self, embedded: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        return embedded + self.from_hidden(self.dropout(hidden)) + self.from_context(context)


@functools.cache
def _compiled_step() -> Callable[..., Any]:
    return torch.compile(AttentionDecoder._advance)
