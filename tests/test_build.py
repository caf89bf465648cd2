"""What build.py makes of a configuration, and that every choice of conf/ composes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.configs import CHOICES, GIVEN, composed, plain
from omegaconf import OmegaConf
from PIL import Image

from autocaption import build
from autocaption.build import trainer_parts
from autocaption.data.transforms import Square
from autocaption.errors import UserError
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


def test_a_trainer_s_loggers_have_started_nothing(tmp_path):
    build.trainer(composed("logger=default", f"run_dir={tmp_path}"))
    assert list(tmp_path.iterdir()) == []  # what is refused later is no failed run of W&B


@pytest.mark.parametrize(
    ("switch", "left_out"),
    [("trainer.enable_progress_bar", "EpochLines"), ("+trainer.enable_checkpointing", "LastCheckpoint")],
)
def test_a_trainer_does_without_what_is_switched_off(switch, left_out, tmp_path):
    with_it = build.trainer(composed("logger=csv", f"run_dir={tmp_path}"))
    without = build.trainer(composed("logger=csv", f"run_dir={tmp_path}", f"{switch}=false"))
    assert left_out in {type(callback).__name__ for callback in with_it.callbacks}
    assert left_out not in {type(callback).__name__ for callback in without.callbacks}


def test_a_metric_that_is_null_is_left_out():
    tiny = ("data.source.train=4", "data.source.val=2", "data.source.test=2", "tokenizer.min_count=1")
    for kept in (True, False):
        words = [] if kept else ["metrics.image_metrics.bleu=null"]
        _, captioner = build.from_config(composed(*tiny, *words))
        captioner.metrics["val"].update(["a"], [["a"]])
        assert ("bleu1" in captioner.metrics["val"].compute()) == kept


@pytest.mark.parametrize(
    ("words", "warned"), [([], True), (["data.feature_views=2"], False), (["data/augment=none"], False)]
)
def test_augmentation_that_stored_features_ignore_is_said(words, warned, tmp_path, caplog):
    encoder = (
        "model/encoder=efficientnet_lite0",
        "model.encoder.pretrained=false",
        "model.encoder.image_size=32",
    )
    sizes = ("data.source.train=24", "data.source.val=2", "data.source.test=2", "data/augment=crop_and_flip")
    build.from_config(
        composed("data.features=cache", f"data.features_folder={tmp_path}", *encoder, *sizes, *words)
    )
    assert ("data.augment has no effect" in caplog.text) == warned


SMALL = ("data.source.train=4", "data.source.val=2", "data.source.test=2", "tokenizer.min_count=1")


@pytest.mark.parametrize("most", ["null", 1])
def test_a_reward_knows_the_captions_that_training_uses(most):
    words = ("model/loss=self_critical", f"data.captions_per_image={most}", *SMALL)
    data, captioner = build.from_config(composed(*words))
    image = data.source.split("train")[0]
    tokens = captioner.tokenizer.encode(image.captions[0])[1:]
    reward = captioner.loss.reward([image.id], np.array([[tokens]])).item()
    assert (reward == pytest.approx(10)) == (most == 1)  # of the only reference; of five the mean is lower


PICKY = "model.encoder._target_=helpers.plain_encoder.PickyEncoder"


def transforms(*words):
    """(of training, of evaluation)"""
    data, _ = build.from_config(composed(*SMALL, *words))
    return data.training_transform, data.evaluation_transform


def test_pictures_are_as_the_encoder_s_weights_want_them_unless_the_configuration_says_otherwise():
    assert transforms() == (Square(64), Square(64))
    wanted = Square(64, 0.5, "pad", "bicubic", (51, 102, 153))
    assert transforms(PICKY) == (wanted, wanted)
    words = ("data.crop_share=0.9", "data.fit=squash", "data.interpolation=bilinear")
    assert transforms(PICKY, *words)[1] == Square(64, 0.9, "squash")
    augmented, evaluation = transforms(PICKY, "data/augment=crop_and_flip", "data.augment_crop=0.8")
    assert evaluation == wanted
    assert augmented.square == replace(wanted, crop_share=0.8)


def test_augmentation_is_a_list_of_transforms():
    flip = "data.augment=[{_target_: torchvision.transforms.v2.RandomHorizontalFlip, p: 1.0}]"
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    training, evaluation = transforms(flip)
    assert torch.equal(training(picture, 0), evaluation(picture, 0).flip(-1))
    assert repr(training) != repr(transforms(flip.replace("1.0", "0.9"))[0])  # torchvision's leaves out p


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "data.augment=true",
            "data.augment=True: give a list of transforms, or data/augment=none",
        ),
        ("data.image_size=32", "data.image_size=32: it is the encoder's, set with model.encoder.image_size"),
        ("data.fit=stretch", "data.fit=stretch: take crop or squash or pad"),
        ("data.crop_share=0", "data.crop_share=0: take a number, above 0 and at most 1"),
        ("data.interpolation=nearest", "data.interpolation=nearest: take bilinear or bicubic"),
    ],
)
def test_what_no_picture_can_be_made_by_is_refused(word, said):
    with pytest.raises(UserError, match=f"^{said}$"):
        transforms(word)


def test_the_saved_configuration_is_resolved_and_without_secrets(tmp_path):
    config = composed("data=flickr8k", "data.root=/d", "+logger.wandb.api_key=hunter2", f"run_dir={tmp_path}")
    build.save_config(config, tmp_path / "config.yaml")
    saved = OmegaConf.load(tmp_path / "config.yaml")
    assert OmegaConf.to_container(saved, resolve=False)["data"]["source"]["root"] == "/d"
    assert "hunter2" not in (tmp_path / "config.yaml").read_text()
    assert saved.seed == config.seed


def test_ddp_is_set_up_on_the_stream_that_trains(tmp_path, monkeypatch):
    """As seen on a GPU, with stand-ins for what a CPU has not."""
    strategy = build.trainer(composed("trainer=ddp_sim", "logger=none", f"run_dir={tmp_path}")).strategy
    monkeypatch.setattr(strategy, "determine_ddp_device_ids", lambda: [0])
    monkeypatch.setattr(torch.cuda, "Stream", lambda: pytest.fail("a stream of its own"))
    monkeypatch.setattr(trainer_parts, "DistributedDataParallel", lambda **given: given)
    model = torch.nn.Linear(1, 1)
    assert strategy._setup_model(model) == {"module": model, "device_ids": [0]}
