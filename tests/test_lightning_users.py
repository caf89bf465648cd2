"""What users of Lightning's own Trainer do with a Captioner and with a checkpoint, without our commands."""

import pytest
import pytorch_lightning as pl
import torch
from helpers.commands import TINY
from helpers.configs import composed
from PIL import Image
from pytorch_lightning.callbacks import LearningRateFinder
from pytorch_lightning.tuner import Tuner
from torch.utils.data import DataLoader

import autocaption
from autocaption import build
from autocaption.errors import UserError
from autocaption.metrics import tokenizers
from autocaption.models.captioner import Captioner
from autocaption.search.greedy import GreedySearch


def config_of(*changes):
    return composed(*TINY, "logger=none", "run_dir=/run", "trainer.precision=32-true", *changes).copy()


def trainer(folder, **settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", logger=False, **{**quiet, **settings})


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    return build.from_config(config_of("optimizer.lr=0.02"))


@pytest.fixture(scope="module")
def file(built, tmp_path_factory):
    """A checkpoint of Lightning's own making."""
    folder = tmp_path_factory.mktemp("lightning")
    data, captioner = built
    fit = trainer(folder, max_epochs=1)
    fit.fit(captioner, data)
    fit.save_checkpoint(folder / "it.ckpt")
    return folder / "it.ckpt"


def test_a_checkpoint_is_loaded_as_any_of_lightning(built, file):
    _, captioner = built
    again = Captioner.load_from_checkpoint(file)
    assert type(again) is Captioner
    assert again.state_dict().keys() == captioner.state_dict().keys()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in captioner.state_dict().items())
    other = Captioner.load_from_checkpoint(str(file), map_location="cpu", search=GreedySearch(3))
    assert isinstance(other.search, GreedySearch)
    with pytest.raises(TypeError, match="strikt"):
        Captioner.load_from_checkpoint(file, strikt=True)
    with pytest.raises(UserError, match="gone"):
        Captioner.load_from_checkpoint(file.parent / "gone.ckpt")


def test_validate_and_test_take_any_loader(built, file, tmp_path):
    data, _ = built
    again = Captioner.load_from_checkpoint(file)
    (ours,) = trainer(tmp_path).validate(again, datamodule=data, verbose=False)
    (own,) = trainer(tmp_path).validate(again, dataloaders=data.val_dataloader(), verbose=False)
    assert own == ours
    assert "val/cider_train_df" in own
    (tested,) = trainer(tmp_path).test(again, dataloaders=data.test_dataloader(), verbose=False)
    assert "test/bleu4" in tested


def test_training_takes_any_loader(built, file, tmp_path):
    data, _ = built
    again = Captioner.load_from_checkpoint(file)
    fit = trainer(tmp_path, max_steps=2)
    fit.fit(again, train_dataloaders=data.train_dataloader(), val_dataloaders=data.val_dataloader())
    assert fit.global_step == 2


def test_predict_gives_the_captions_of_each_batch(built, file, tmp_path):
    data, _ = built
    again = Captioner.load_from_checkpoint(file)
    batches = trainer(tmp_path).predict(again, datamodule=data)
    ids = [image.id for image in data.source.split("test")]
    assert [id for batch in batches for id in batch.ids] == ids
    assert all(batch.tokens_BT is None and batch.memory is None for batch in batches)  # which would pile up
    pictures = [data.source.read(image) for image in data.source.split("test")]
    model = autocaption.load(file, "cpu")
    expected = [captions[0].text for captions in model.caption(pictures)]
    assert [text for batch in batches for text in batch.captions] == expected
    images = DataLoader([model.prepare(picture).pixels_CHW for picture in pictures], batch_size=4)
    plain = trainer(tmp_path).predict(again, images)
    assert [text for batch in plain for text in batch.captions] == expected


def test_the_learning_rate_finder_s_suggestion_is_what_trains(file, tmp_path):
    data, _ = build.from_config(config_of("data.source.train=256"))
    again = Captioner.load_from_checkpoint(file)
    assert again.lr == 0.02
    fit = trainer(tmp_path, max_epochs=1)
    found = Tuner(fit).lr_find(again, datamodule=data, num_training=30, early_stop_threshold=None)
    rate = found.suggestion()
    assert 1e-8 < rate < 1
    assert again.lr == rate
    fit.fit(again, data)
    assert {group["initial_lr"] for group in fit.optimizers[0].param_groups} == {rate}


@pytest.mark.slow
def test_the_finder_as_a_callback_changes_the_schedule_that_runs(file, tmp_path):
    data, _ = build.from_config(config_of("data.source.train=256"))
    again = Captioner.load_from_checkpoint(file)
    finder = LearningRateFinder(num_training_steps=30, early_stop_threshold=None)
    fit = trainer(tmp_path, max_epochs=1, callbacks=[finder], limit_val_batches=1)
    fit.fit(again, data)
    rate = finder.optimal_lr.suggestion()
    assert rate not in (None, 0.02)
    assert fit.lr_scheduler_configs[0].scheduler.base_lrs == pytest.approx([rate] * 2)


def test_a_model_to_caption_with_needs_nothing_that_its_metrics_need(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "missing", lambda jar: None)
    _, captioner = build.from_config(config_of("metrics/tokenizer=ptb"))
    path = tmp_path / "some.ckpt"
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, path)
    monkeypatch.setattr(tokenizers, "missing", lambda jar: "Java is not installed")
    assert autocaption.load(path, "cpu").caption(Image.new("RGB", (80, 60)))
    with pytest.raises(Exception, match="Java is not installed"):
        Captioner.load_from_checkpoint(path)
