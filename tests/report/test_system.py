"""What a report reads from a run folder."""

import json

import pytest

from autocaption.files import write_json, write_text
from autocaption.report.heat_maps import HeatMaps, write_heat_maps
from autocaption.report.system import read_system


@pytest.fixture
def folder(tmp_path):
    figures = {
        "epochs": 3,
        "split": "test",
        "test/cider": 1.25,
        "val/bleu4": 0.5,
        "test/nan": float("nan"),
        "intervals": {"test/cider": [1.0, 1.5]},
    }
    captions = [{"image_id": 12, "caption": "a dog"}, {"image_id": "b", "caption": ""}]
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    return tmp_path


def test_reads_metrics_and_captions(folder):
    system = read_system(folder, "beam", "test")
    assert (system.name, system.split) == ("beam", "test")
    assert system.metrics == {"test/cider": 1.25, "val/bleu4": 0.5}
    assert system.intervals == {"test/cider": (1.0, 1.5)}
    assert {id: one.caption for id, one in system.sentences.items()} == {"12": "a dog", "b": ""}
    assert system.facts == {"epochs": "3"}
    assert system.curves == {}
    assert system.scores("cider") == {}


def test_reads_scores_of_single_captions_and_leaves_out_text(folder):
    text = 'image_id,caption,cider,bleu4\n12,"a, dog",0.5,nan\nb,,0.25,1e-3\nelsewhere,x,1,1\n'
    (folder / "per_image.csv").write_text(text)
    system = read_system(folder, "beam", "test")
    assert system.scores("cider") == {"12": 0.5, "b": 0.25}
    assert system.scores("bleu4") == {"b": 0.001}
    assert system.scores("caption") == {}


def test_a_name_that_is_no_unicode_keeps_its_scores(tmp_path):
    write_json(tmp_path / "captions.json", [{"image_id": "caf\udce9.png", "caption": "a dog"}])
    write_text(tmp_path / "per_image.csv", "image_id,cider\ncaf\udce9.png,0.5\n")
    assert read_system(tmp_path, "beam", "test").scores("cider") == {"caf\udce9.png": 0.5}


def test_reads_heat_maps_as_they_were_written(folder):
    maps = {"12": HeatMaps(2, "ABCD"), "other": HeatMaps(3, "A" * 9)}
    write_heat_maps(folder / "attention.json", maps)
    system = read_system(folder, "beam", "test")
    assert system.sentences["12"].heat_maps == maps["12"]
    assert system.sentences["b"].heat_maps is None


def test_reads_curves_of_the_training(folder, tmp_path):
    (tmp_path / "training/csv").mkdir(parents=True)
    rows = "epoch,step,train/loss,val/bleu4\n0,1,2.5,\n0,2,1.5,0.25\n,,1,1\n"
    (tmp_path / "training/csv/metrics.csv").write_text(rows)
    curves = read_system(folder, "beam", "test", training=tmp_path / "training").curves
    assert curves["train/loss"] == [(1, 2.5), (2, 1.5)]
    assert curves["val/bleu4"] == [(2, 0.25)]


def test_says_how_it_was_made_by_the_last_start(folder):
    starts = [
        {"command": "first"},
        {"command": "python eval.py", "git": {"commit": "a" * 40, "changed": True}},
    ]
    (folder / "provenance.json").write_text(json.dumps(starts))
    facts = read_system(folder, "beam", "test").facts
    assert facts == {"epochs": "3", "commit": "aaaaaaaaaa, with changes", "command": "python eval.py"}


def test_an_empty_folder_is_an_empty_system(tmp_path):
    system = read_system(tmp_path, "beam", "test")
    assert not any((system.metrics, system.curves, system.sentences, system.facts))
