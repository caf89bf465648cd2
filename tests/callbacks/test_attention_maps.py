"""Where a decoder looked for each word of a test's captions, in attention.json.

Legend: B images, T time, P places.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from autocaption.callbacks.attention_maps import AttentionMaps
from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, WordTokenizer
from autocaption.models.captioner import Predictions
from autocaption.report.heat_maps import HeatMaps, heat_maps, read_heat_maps

P = 4


class Attends(nn.Module):
    """Looks only at the place that the input token names; keeps what it was asked."""

    def __init__(self, places=P):
        super().__init__()
        self.weight, self.places = nn.Parameter(torch.zeros(1, dtype=torch.float64)), places

    def attention(self, memory_BPD, tokens_BT):
        assert memory_BPD.dtype == torch.float64
        self.asked_BT = tokens_BT
        return nn.functional.one_hot(tokens_BT % self.places, self.places).double()


class Syllables:
    """Spells words in several tokens; even ones start a word, and 4 is two words."""

    def decode(self, ids):
        return "".join({0: " x", 1: "y"}[i % 2] if i != 4 else " x x" for i in ids if i > EOS).strip()


WORDS = WordTokenizer(str.split, 1, 4, [*SPECIAL, "u", "v", "w", "x"])


def written(decoder, folder, first=True, tokenizer=WORDS, grid_side=2, **changes):
    tokens_BT = torch.tensor([[5, 6, EOS, PAD], [4, 4, 7, 7], [EOS, PAD, PAD, PAD]])
    captions = [tokenizer.decode(tokens) for tokens in tokens_BT.tolist()]
    made = Predictions(("a", "b", "c"), captions, ((),) * 3, tokens_BT, torch.zeros(3, P, 2))
    encoder = SimpleNamespace(grid_side=grid_side)
    callback = AttentionMaps(str(folder))
    module = SimpleNamespace(decoder=decoder, encoder=encoder, tokenizer=tokenizer)
    trainer = SimpleNamespace(is_global_zero=first)
    callback.on_test_batch_end(trainer, module, made._replace(**changes), None, 0)
    callback.on_test_epoch_end(trainer, module)
    return folder / "attention.json"


def test_each_word_has_the_map_of_the_step_that_said_it(tmp_path):
    decoder = Attends()
    found = read_heat_maps(written(decoder, tmp_path))
    assert decoder.asked_BT.tolist() == [[BOS, 5, PAD, PAD], [BOS, 4, 4, 7], [BOS, PAD, PAD, PAD]]
    looked = {"a": [BOS, 5], "b": [BOS, 4, 4, 7], "c": []}
    eye = torch.eye(P).numpy()
    assert found == {id: heat_maps(eye[[token % P for token in tokens]]) for id, tokens in looked.items()}


def test_a_word_of_several_tokens_has_their_mean_map(tmp_path):
    found = read_heat_maps(written(Attends(), tmp_path, tokenizer=Syllables()))
    eye = torch.eye(P).numpy()
    looked = {  # at the token before
        "a": [eye[BOS], eye[5 % P]],
        "b": [eye[BOS], eye[BOS], eye[4 % P], (eye[4 % P] + eye[4 % P] + eye[7 % P]) / 3],
        "c": eye[:0],
    }
    assert found == {id: heat_maps(np.stack(maps) if len(maps) else maps) for id, maps in looked.items()}


@pytest.mark.parametrize(
    ("decoder", "grid_side"), [(nn.Linear(1, 1), 2), (Attends(), None), (Attends(places=1), 1)]
)
def test_without_attention_to_a_grid_there_is_no_file(tmp_path, decoder, grid_side):
    assert not written(decoder, tmp_path, grid_side=grid_side).exists()


def test_the_first_rank_writes_the_maps_of_all(tmp_path, monkeypatch):
    other = {"d": HeatMaps(2, "ABCD")}
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        dist, "all_gather_object", lambda ranks, own: ranks.__setitem__(slice(None), [own, other])
    )
    assert not written(Attends(), tmp_path, first=False).exists()
    assert list(json.loads(written(Attends(), tmp_path).read_text())) == ["a", "b", "c", "d"]
