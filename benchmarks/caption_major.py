"""Show and Tell as it is usually written, as a baseline: a batch is captions, each with a copy of its image.

Legend: B captions, T time, D width, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from autocaption.data.tokenizer import PAD


class Captions(Dataset):
    """(input, tokens_T) of each caption; an image's input is repeated for each of its captions."""

    def __init__(self, images, inputs, tokenizer):
        self.rows = [(i, tokenizer.encode(text)) for i, image in enumerate(images) for text in image.captions]
        self.inputs = inputs

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        image, tokens = self.rows[row]
        return self.inputs(image), torch.tensor(tokens)


def collate(items) -> tuple[Tensor, Tensor]:
    inputs, tokens = zip(*items, strict=True)
    return torch.stack(inputs), pad_sequence(list(tokens), batch_first=True, padding_value=PAD)


class Model(nn.Module):
    """torch's LSTM over padded captions, with logits at <pad> too."""

    def __init__(self, feature_dim, vocab_size, dim, dropout, encoder=None):
        super().__init__()
        self.encoder = encoder
        self.project, self.norm = nn.Linear(feature_dim, dim), nn.BatchNorm1d(dim, momentum=0.01)
        self.embed = nn.Embedding(vocab_size, dim)
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.dropout, self.output = nn.Dropout(dropout), nn.Linear(dim, vocab_size)

    def forward(self, inputs, tokens_BT):
        features_BD = inputs
        if self.encoder is not None:
            with torch.no_grad():
                features_BD = self.encoder(inputs).mean(1)
        image_BD = self.norm(self.project(features_BD))
        words_BTD = self.embed(tokens_BT[:, :-1])
        x_BTD = self.dropout(torch.cat([image_BD.unsqueeze(1), words_BTD], 1))
        hidden_BTD, _ = self.lstm(x_BTD)
        return self.output(self.dropout(hidden_BTD[:, 1:]))


def steps(dataset, model, batch_size) -> Iterator[float]:
    """Train forever, one step per `next`; yields the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model.train()
    if model.encoder is not None:
        model.encoder.eval()
    while True:
        for inputs, tokens_BT in DataLoader(dataset, batch_size, shuffle=True, collate_fn=collate):
            logits_BTV = model(inputs, tokens_BT)
            loss = nn.functional.cross_entropy(
                logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten(), ignore_index=PAD
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            yield loss.item()
