"""Reading checkpoints: what is none, what a later version wrote, what earlier ones left out."""

import math

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchvision.transforms import v2

from autocaption.errors import UserError
from autocaption.runs.checkpoint import LAYOUT, load


def content(**changes):
    recipe = {"layout": LAYOUT, "config": {"data": {"crop": 1.0}, "seed": 0}, "vocabulary": ["<pad>"]}
    return {"recipe": {**recipe, **changes}, "state_dict": {"w": torch.ones(2)}}


@pytest.fixture(name="saved")
def save(tmp_path):
    def save(value):
        torch.save(value, tmp_path / "a.ckpt")
        return tmp_path / "a.ckpt"

    return save


def test_a_later_layout_is_refused(saved):
    with pytest.raises(UserError, match=r"a\.ckpt was written by a newer autocaption \(layout 99\)"):
        load(saved(content(layout=99)))


def test_keys_that_came_later_get_their_defaults(saved):
    config = load(saved(content()))["recipe"]["config"]
    added = {"captions_per_image": None, "features_dtype": "float16", "manifest": None}
    added |= {"max_pixels": 200_000_000, "on_broken": "stop"}
    added |= {"fit": "crop", "interpolation": "bilinear", "image_size": None}
    assert config == {"data": {"crop_share": 1.0, **added}, "seed": 0, "layer_decay": 1.0}
    given = {"data": {**added, "captions_per_image": 2, "on_broken": "skip"}, "layer_decay": 0.5}
    assert load(saved(content(config=given)))["recipe"]["config"] == given
    assert load(saved(content(config={"seed": 1})))["recipe"]["config"] == {"seed": 1, "layer_decay": 1.0}


def test_the_folder_of_new_runs_has_its_name_of_today(saved):
    old = {"runs": "/r", "logger": {"csv": {"folder": "${runs}/csv"}}}
    config = load(saved(content(config=old)))["recipe"]["config"]
    assert (config.pop("runs_dir"), config["logger"]["csv"]["folder"]) == ("/r", "${runs_dir}/csv")
    assert "runs" not in config


@pytest.mark.parametrize("augment", [True, False])
def test_pictures_of_earlier_checkpoints_are_made_as_before(saved, augment):
    config = load(saved(content(config={"data": {"crop": 0.9, "augment": augment}})))["recipe"]["config"]
    assert "crop" not in config["data"]
    config["data"]["image_size"] = 5
    made = instantiate(OmegaConf.create(config).data)
    assert (made.crop_share, made.fit, made.interpolation) == (0.9, "crop", "bilinear")
    kinds = [type(transform) for transform in made.augment]
    assert kinds == ([v2.RandomCrop, v2.RandomHorizontalFlip] if augment else [])
    assert not augment or made.augment[0].size == (5, 5)


@pytest.mark.parametrize("vocabulary", [["<pad>"], '{"version": "1.0"}'], ids=["words", "tokenizer.json"])
def test_every_tokenizer_s_vocabulary_is_read(saved, vocabulary):
    assert load(saved(content(vocabulary=vocabulary)))["recipe"]["vocabulary"] == vocabulary


def test_a_checkpoint_of_0_1_0_has_today_s_names(saved):
    old = {**content(config={"model": {"loss": {"_target_": "autocaption.models.loss.CrossEntropy"}}})}
    del old["recipe"]["layout"]
    found = load(saved({**old, "figures": {"val/bleu4": 0.5}}))
    assert found["metrics"] == {"val/bleu4": 0.5}
    assert found["recipe"]["config"]["model"]["loss"]["_target_"] == "autocaption.models.losses.CrossEntropy"


@pytest.mark.parametrize("members", [[{"n_gram": 3}], {"mine": {"n_gram": 3}}], ids=["list", "names"])
def test_a_collection_of_metrics_scores_the_words_of_the_model_as_before(saved, members):
    bleu = {"_target_": "autocaption.metrics.bleu.Bleu"}
    for one in members if isinstance(members, list) else members.values():
        one.update(bleu)
    rule = {"_target_": "hydra.utils.get_method", "path": "autocaption.data.tokenizer.original"}
    old = {"metrics": {"_target_": "torchmetrics.MetricCollection", "metrics": members}}
    config = load(saved(content(config={**old, "tokenizer": {"rule": rule}})))["recipe"]["config"]
    metrics = instantiate(config["metrics"])
    metrics.update(["a big dog runs"], [["A big dog runs 2 miles."]])
    assert {name: score.item() for name, score in metrics.compute().items()} == pytest.approx(
        {f"bleu{n}": math.exp(1 - 4 / 3) for n in (1, 2, 3)}
    )


def test_weights_of_a_wrapped_model(saved):
    value = content() | {"state_dict": {"module.w": torch.ones(2)}}
    assert list(load(saved(value))["state_dict"]) == ["w"]


@pytest.mark.parametrize("lost", ["config", "vocabulary", "state_dict"])
def test_what_a_checkpoint_lacks_is_named(saved, lost):
    value = content()
    value.pop(lost, None)
    value["recipe"].pop(lost, None)
    with pytest.raises(UserError, match=rf"a\.ckpt lacks its {lost}"):
        load(saved(value))


@pytest.mark.parametrize("value", [{"state_dict": {}}, [1], torch.ones(2), {"recipe": 3}], ids=repr)
def test_a_file_of_another_tool_is_refused(saved, value):
    with pytest.raises(UserError, match=r"not a checkpoint of autocaption: .*a\.ckpt"):
        load(saved(value))


@pytest.mark.parametrize("text", [b"", b"no checkpoint", b"PK\x03\x04 broken", b"rgb\n", b"j"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, text):
    (tmp_path / "a.ckpt").write_bytes(text)
    with pytest.raises(UserError, match=r"cannot read the checkpoint .*a\.ckpt"):
        load(tmp_path / "a.ckpt")


def test_folders_and_missing_files_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="is a folder; name a checkpoint"):
        load(tmp_path)
    with pytest.raises(UserError, match="checkpoint not found"):
        load(tmp_path / "a.ckpt")
