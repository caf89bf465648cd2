"""Legend: B images, N captions an image, K beams an image, T time, P places, D width, V vocabulary,
M real tokens, R rows of a search or of a batch's captions; A, C, G as in attend_lstm.py.
"""

import torch
from torch import Tensor, nn

from autocaption.data.tokenizer import PAD
from autocaption.models.decoders.attention_recurrence import Weights, attend
from autocaption.models.decoders.packing import TimeMajor
from autocaption.models.dropout import Dropout
from autocaption.models.protocols import Decoded, State

Pair = tuple[Tensor, Tensor]


class AttentionDecoder(nn.Module):
    """Show, Attend and Tell with soft attention (Xu et al. 2015).

    An LSTM that starts from the mean of the memory (section 3.1.2) looks, for every word, at the
    places by additive attention, through a scalar gate (4.2.1); a deep output layer brings together
    word, state and context (eq. 7). Over a caption, every place is to get a weight of 1 altogether
    (eq. 14, the doubly stochastic regularisation), which is reported as a penalty. The forget
    gate's bias starts at 1 (Jozefowicz et al. 2015).

    Args:
        vocab_size: V.
        memory_dim: D of the memory; it is projected to the width of the LSTM first.
        embed_dim: D of word embeddings and of the deep output layer.
        hidden_dim: D of the LSTM.
        attention_dim: A, of keys and queries.
        dropout: of the memory, the embedded words, the LSTM's output and before the vocabulary
            projection.
        doubly_stochastic: lambda of eq. 14, for a loss that is a sum over a caption's words.
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
    ) -> None:
        super().__init__()
        D = hidden_dim
        self.project, self.key = nn.Linear(memory_dim, D), nn.Linear(D, attention_dim)
        self.query = nn.Linear(D, attention_dim, bias=False)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.gate = nn.Linear(D, 1)
        self.init_hidden, self.init_cell = nn.Linear(D, D), nn.Linear(D, D)
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.word_gates, self.recur = nn.Linear(embed_dim, 4 * D), nn.Linear(2 * D, 4 * D, bias=False)
        nn.init.normal_(self.embed.weight, std=embed_dim**-0.5)
        nn.init.ones_(self.word_gates.bias[D : 2 * D])  # keep, at first, what is in the cell
        self.from_hidden, self.from_context = nn.Linear(D, embed_dim), nn.Linear(D, embed_dim)
        self.output = nn.Linear(embed_dim, vocab_size)
        self.dropout, self.doubly_stochastic = Dropout(dropout), doubly_stochastic

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor) -> Decoded:
        """The hidden state after each input token, zero at <pad>, and the penalty."""
        packing = TimeMajor(tokens_BNT)
        embedded_MD = self.dropout(self.embed(packing.tokens_M))
        hidden_MD, context_MC, alpha_MP = self._run(memory_BPD, embedded_MD, packing)
        hidden_BNTD = packing.unpack(self._deepen(embedded_MD, hidden_MD, context_MC))
        given_RP = alpha_MP.new_zeros(len(packing.order_R), alpha_MP.shape[1])
        given_RP = given_RP.index_add(0, packing.row_M, alpha_MP)[: packing.rows_T[0]]
        penalty = self.doubly_stochastic * (1 - given_RP).square().sum() / len(alpha_MP)
        return Decoded(hidden_BNTD, penalty)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return self.output(self.dropout(hidden))

    def init_state(self, memory_BPD: Tensor) -> State:
        """The LSTM's states; keys and values of the memory."""
        return State(*self._start(memory_BPD))

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        (h_RD, c_RD), (keys_BPA, values_BPC) = state
        query_BK1A = self.query(h_RD).view(len(keys_BPA), -1, 1, keys_BPA.shape[2])
        scores_BKP = self.score((keys_BPA.unsqueeze(1) + query_BK1A).tanh()).squeeze(3)
        context_RC = (scores_BKP.softmax(2) @ values_BPC).flatten(0, 1)
        context_RC = self.gate(h_RD).sigmoid() * context_RC
        embedded_RD = self.dropout(self.embed(tokens_R))
        gates_RG = self.word_gates(embedded_RD) + self.recur(torch.cat([context_RC, h_RD], 1))
        i, f, g, o = gates_RG.chunk(4, 1)
        c_RD = f.sigmoid() * c_RD + i.sigmoid() * g.tanh()
        h_RD = o.sigmoid() * c_RD.tanh()
        logits_RV = self.head(self._deepen(embedded_RD, h_RD, context_RC))
        return logits_RV, State((h_RD, c_RD), state.images)

    def attention(self, memory_BPD: Tensor, tokens_BT: Tensor) -> Tensor:
        """weights_BTP, the alphas of eq. 5."""
        packing = TimeMajor(tokens_BT.unsqueeze(1))
        alpha_MP = self._run(memory_BPD, self.embed(packing.tokens_M), packing)[2]
        return packing.unpack(alpha_MP).squeeze(1)

    def _start(self, memory_BPD: Tensor) -> tuple[Pair, Pair]:
        """The LSTM's states before <bos>; keys and values."""
        values_BPC = self.project(self.dropout(memory_BPD))
        mean_BC = values_BPC.mean(1)
        states = self.init_hidden(mean_BC).tanh(), self.init_cell(mean_BC).tanh()
        return states, (self.key(values_BPC), values_BPC)

    def _run(self, memory_BPD: Tensor, embedded_MD: Tensor, packing: TimeMajor) -> tuple[Tensor, ...]:
        states, memory = self._start(memory_BPD)
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
