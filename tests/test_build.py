"""What build.py makes of a configuration, and that every choice of conf/ composes."""

import pytest
from helpers.configs import CHOICES, GIVEN, composed, plain
from omegaconf import OmegaConf

from autocaption import build
from autocaption.runs.checkpoint_io import SafeCheckpointIO


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_resolves(choice):
    config = composed(choice, *GIVEN)
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert set(plain(composed())) <= set(values)


def test_a_trainer_gets_the_run_folder_and_what_is_configured(tmp_path):
    config = composed("logger=csv", "trainer.max_epochs=3", f"run_dir={tmp_path}")
    trainer = build.trainer(config)
    assert (trainer.max_epochs, trainer.default_root_dir) == (3, str(tmp_path))
    assert [type(logger).__name__ for logger in trainer.loggers] == ["CSVLogger"]
    kept = [type(callback).__name__ for callback in trainer.checkpoint_callbacks]
    assert kept == ["ModelCheckpoint", "LastCheckpoint"]  # last.ckpt knows of the best one
    assert isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO)


def test_a_metric_that_is_null_is_left_out():
    tiny = ("data.source.train=4", "data.source.val=2", "data.source.test=2", "tokenizer.min_count=1")
    for kept in (True, False):
        words = [] if kept else ["metrics.image_metrics.bleu=null"]
        _, captioner = build.from_config(composed(*tiny, *words))
        captioner.metrics["val"].update(["a"], [["a"]])
        assert ("bleu1" in captioner.metrics["val"].compute()) == kept


@pytest.mark.parametrize(
    ("words", "warned"), [([], True), (["data.feature_views=2"], False), (["data.augment=false"], False)]
)
def test_augmentation_that_stored_features_ignore_is_said(words, warned, tmp_path, caplog):
    encoder = (
        "model/encoder=efficientnet_lite0",
        "model.encoder.pretrained=false",
        "model.encoder.image_size=32",
    )
    sizes = ("data.source.train=24", "data.source.val=2", "data.source.test=2", "data.augment=true")
    build.from_config(
        composed("data.features=cache", f"data.features_folder={tmp_path}", *encoder, *sizes, *words)
    )
    assert ("data.augment has no effect" in caplog.text) == warned


def test_the_saved_configuration_is_resolved_and_without_secrets(tmp_path):
    config = composed("data=flickr8k", "data.root=/d", "+logger.wandb.api_key=hunter2", f"run_dir={tmp_path}")
    build.save_config(config, tmp_path / "config.yaml")
    saved = OmegaConf.load(tmp_path / "config.yaml")
    assert OmegaConf.to_container(saved, resolve=False)["data"]["source"]["root"] == "/d"
    assert "hunter2" not in (tmp_path / "config.yaml").read_text()
    assert saved.seed == config.seed
