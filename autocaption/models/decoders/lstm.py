"""Legend: B images, N captions an image, T time, P places, D width, V vocabulary, L layers, R rows."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from autocaption.data.tokenizer import PAD

State = tuple[Tensor, Tensor]  # h_RLD, c_RLD


class LSTMDecoder(nn.Module):
    """Show and Tell: the image vector is the LSTM's first input (Vinyals et al. 2015, eq. 10-12).

    The vector is projected to the width of the word embeddings and batch-normalised. It passes
    through the LSTM once an image, and the state behind it starts all captions of the image.

    Args:
        vocab_size: V.
        memory_dim: D of the memory; a grid is averaged.
        embed_dim: D of the word embeddings and the projected image.
        hidden_dim: D of the LSTM.
        layers: L.
        dropout: before the LSTM, between its layers, and before the vocabulary projection.
        batch_norm_momentum: of the running statistics of the projected image.
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
    ) -> None:
        super().__init__()
        self.project = nn.Linear(memory_dim, embed_dim)
        self.norm = nn.BatchNorm1d(embed_dim, momentum=batch_norm_momentum)
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(embed_dim, hidden_dim, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, vocab_size)

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor) -> Tensor:
        """hidden_BNTD after each input token; zero at <pad>."""
        B, N, T = tokens_BNT.shape
        h_RLD, c_RLD = (part.repeat_interleave(N, dim=0) for part in self.init_state(memory_BPD))
        tokens_RT = tokens_BNT.flatten(0, 1)
        lengths_R = (tokens_RT != PAD).sum(1).clamp(min=1).cpu()
        embedded = self.dropout(self.embed(tokens_RT))
        packed = pack_padded_sequence(embedded, lengths_R, batch_first=True, enforce_sorted=False)
        packed, _ = self.lstm(packed, (h_RLD.transpose(0, 1), c_RLD.transpose(0, 1)))
        hidden_RTD, _ = pad_packed_sequence(packed, batch_first=True, total_length=T)
        return hidden_RTD.unflatten(0, (B, N))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        return self.output(self.dropout(hidden))

    def init_state(self, memory_BPD: Tensor) -> State:
        """The state after the image and before <bos>."""
        vector_BD = self.project(memory_BPD.mean(1))
        if self.training and len(vector_BD) == 1:  # one image has no batch statistics
            vector_BD = nn.functional.batch_norm(
                vector_BD, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias
            )
        else:
            vector_BD = self.norm(vector_BD)
        _, (h_LBD, c_LBD) = self.lstm(self.dropout(vector_BD).unsqueeze(1))
        return h_LBD.transpose(0, 1), c_LBD.transpose(0, 1)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        h_RLD, c_RLD = state
        embedded_R1D = self.dropout(self.embed(tokens_R)).unsqueeze(1)
        hidden_R1D, (h_LRD, c_LRD) = self.lstm(
            embedded_R1D, (h_RLD.transpose(0, 1).contiguous(), c_RLD.transpose(0, 1).contiguous())
        )
        return self.head(hidden_R1D.squeeze(1)), (h_LRD.transpose(0, 1), c_LRD.transpose(0, 1))
