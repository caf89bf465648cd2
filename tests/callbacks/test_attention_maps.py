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
from autocaption.data.tokenizer import BOS, EOS, PAD
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


class Spells:
    """A word a token; from 10 on, a token goes on with the word before."""

    def decode(self, ids):
        return "".join(f"{' ' * (id < 10)}{id}" for id in ids if id not in (EOS, PAD)).strip()


def written(decoder, folder, first=True, encoder=None, **changes):
    tokens_BT = torch.tensor([[5, 6, EOS, PAD], [4, 4, 7, 7], [EOS, PAD, PAD, PAD]])
    places = getattr(decoder, "places", P)
    memory_BPD = torch.zeros(3, places, 2)
    made = Predictions(("a", "b", "c"), ["x y", "z z u u", ""], ((),) * 3, tokens_BT, memory_BPD)
    callback, module = AttentionMaps(str(folder)), SimpleNamespace(encoder=encoder, decoder=decoder)
    module.tokenizer = Spells()
    trainer = SimpleNamespace(is_global_zero=first)
    callback.on_test_batch_end(trainer, module, made._replace(**changes), None, 0)
    callback.on_test_epoch_end(trainer, module)
    return folder / "attention.json"


def test_each_word_has_the_map_of_the_step_that_said_it(tmp_path):
    decoder = Attends()
    found = read_heat_maps(written(decoder, tmp_path))
    assert decoder.asked_BT.tolist() == [[BOS, 5, 6, PAD], [BOS, 4, 4, 7], [BOS, PAD, PAD, PAD]]
    looked = {"a": [BOS, 5], "b": [BOS, 4, 4, 7], "c": []}
    eye = torch.eye(P).numpy()
    assert found == {id: heat_maps(eye[[token % P for token in tokens]]) for id, tokens in looked.items()}


def test_a_word_of_several_tokens_has_their_mean_map(tmp_path):
    tokens_BT = torch.tensor([[6, 11, 5, EOS], [4, EOS, PAD, PAD], [EOS, PAD, PAD, PAD]])
    found = read_heat_maps(written(Attends(), tmp_path, tokens_BT=tokens_BT))
    eye = torch.eye(P).numpy()
    looked = (eye[[BOS, 6 % P]].mean(0), eye[11 % P])
    assert found["a"] == heat_maps(np.array(looked))
    assert found["b"] == heat_maps(eye[[BOS]])


def test_the_places_of_several_encoders_are_no_grid(tmp_path):
    assert not written(Attends(), tmp_path, encoder=SimpleNamespace(along="places")).exists()


@pytest.mark.parametrize("decoder", [nn.Linear(1, 1), Attends(places=3)])
def test_without_attention_to_a_grid_there_is_no_file(tmp_path, decoder):
    assert not written(decoder, tmp_path).exists()


def test_the_first_rank_writes_the_maps_of_all(tmp_path, monkeypatch):
    other = {"d": HeatMaps(2, "ABCD")}
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        dist, "all_gather_object", lambda ranks, own: ranks.__setitem__(slice(None), [own, other])
    )
    assert not written(Attends(), tmp_path, first=False).exists()
    assert list(json.loads(written(Attends(), tmp_path).read_text())) == ["a", "b", "c", "d"]
