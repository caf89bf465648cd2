"""Show and Tell.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary, L layers, R rows,
M packed tokens (time-major).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocaption.checks import number, whole
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import PAD
from autocaption.models.decoders import MOST_LAYERS, require_sizes
from autocaption.models.decoders.logits import logits_of
from autocaption.models.decoders.lstm_recurrence import States, cell, lstm
from autocaption.models.dropout import Dropout, WordDropout
from autocaption.models.protocols import Decoded, State

Rows = tuple[States, ...]  # of the layers


class LSTMDecoder(nn.Module):
    """Show and Tell: the image vector is the LSTM's first input (Vinyals et al. 2015, eq. 10-12).

    The vector is projected to the width of the word embeddings and batch-normalised. It passes through
    the LSTM once an image, and all captions of the image start from the state after it. The forget
    gate's bias starts at 1 (Jozefowicz et al. 2015).

    Args:
        vocab_size: V.
        memory_dim: D of the memory; a grid is averaged.
        embed_dim: D of the word embeddings and the projected image.
        hidden_dim: D of the LSTM.
        layers: L.
        dropout: applied before the LSTM, between its layers, and before the vocabulary projection.
        batch_norm_momentum: momentum of the running statistics of the projected image.
        word_dropout: the share of input words replaced by <unk> in training.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        embed_dim: int,
        hidden_dim: int,
        layers: int,
        dropout: float,
        batch_norm_momentum: float,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim)
        whole("model.decoder.layers", layers, 1, MOST_LAYERS)
        number("model.decoder.batch_norm_momentum", batch_norm_momentum, above=0, at_most=1)
        self.dropout, self.word_dropout = Dropout(dropout), WordDropout(word_dropout)
        self.project = nn.Linear(memory_dim, embed_dim)
        self.norm = nn.BatchNorm1d(embed_dim, momentum=batch_norm_momentum)
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(embed_dim, hidden_dim, layers, dropout=between)
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias_ih"):  # forget gates start open
                nn.init.ones_(bias[hidden_dim : 2 * hidden_dim])
        self.output = nn.Linear(hidden_dim, vocab_size)

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """The hidden state after each input token; zero at <pad>."""
        packing = (layout or Layout.of(tokens_BNT)).time_major
        h_LRD, c_LRD = (
            torch.stack(parts).index_select(1, packing.image_R)
            for parts in zip(*self._start(memory_BPD), strict=True)
        )
        embedded_MD = self.dropout(self.embed(self.word_dropout(packing.pack(tokens_BNT))))
        return Decoded(packing.unpack(lstm(self.lstm, embedded_MD, packing.rows_T, h_LRD, c_LRD)))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return logits_of(self.dropout(hidden), self.output.weight, self.output.bias)

    def init_state(self, memory_BPD: Tensor) -> State:
        """The state after the image, before <bos>."""
        return State(self._start(memory_BPD), ())

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        rows = cell(self.lstm, self.dropout(self.embed(tokens_R)), state.rows)
        return self.head(rows[-1][0]), State(rows, state.images)

    def _start(self, memory_BPD: Tensor) -> Rows:
        vector_BD = self.project(memory_BPD.mean(1))
        if self.training and len(vector_BD) == 1:  # a single image has no batch statistics
            norm = self.norm
            vector_BD = F.batch_norm(vector_BD, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        else:
            vector_BD = self.norm(vector_BD)
        nothing_BD = vector_BD.new_zeros(len(vector_BD), self.lstm.hidden_size)
        return cell(self.lstm, self.dropout(vector_BD), [(nothing_BD, nothing_BD)] * self.lstm.num_layers)
