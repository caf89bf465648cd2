"""Captions of a whole split: collected over ranks, written after a test, logged after a validation."""

import json
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch.distributed as dist
from PIL import Image

from autocaption.callbacks.predictions import CaptionWriter, PredictionCallback
from autocaption.data.sources.shapes import Shapes
from autocaption.models.captioner import Predictions

SOURCE = Shapes(seed=0, size=20, train=1, val=5, test=4)


def predictions(split, *indices):
    """A batch of captions, one for each image of a split at these indices."""
    images = [SOURCE.split(split)[i] for i in indices]
    captions = [f"caption of {image.id}" for image in images]
    return Predictions(tuple(image.id for image in images), captions, tuple(i.captions for i in images))


def trainer(loggers=(), first=True, sanity_checking=False):
    data = SimpleNamespace(source=SOURCE, split_of=lambda stage: stage)
    return SimpleNamespace(
        datamodule=data, loggers=list(loggers), is_global_zero=first, sanity_checking=sanity_checking
    )


def fed(callback, *batches):
    for i, batch in enumerate(batches):
        callback.on_test_batch_end(None, None, batch, None, i)
    return callback


def test_collects_in_the_order_of_the_split_and_forgets():
    ids = [image.id for image in SOURCE.split("test")]
    callback = fed(PredictionCallback(), predictions("test", 2, 0), predictions("test", 3, 1))
    assert [id for id, _, _ in callback.collect(ids)] == ids
    assert callback.collect(ids) == []


def test_collects_the_captions_of_every_rank(monkeypatch):
    ids = [image.id for image in SOURCE.split("test")]
    other = fed(PredictionCallback(), predictions("test", 1, 3)).collect(ids)

    def all_gather(ranks, mine):
        ranks[:] = [mine, other]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", all_gather)
    callback = fed(PredictionCallback(), predictions("test", 0, 2))
    assert [(id, caption) for id, caption, _ in callback.collect(ids)] == [
        (id, f"caption of {id}") for id in ids
    ]


def test_a_test_leaves_captions_and_a_sheet(tmp_path):
    writer = fed(
        CaptionWriter(str(tmp_path), samples=2), predictions("test", 3, 2), predictions("test", 1, 0)
    )
    writer.on_test_epoch_end(trainer(), None)
    expected = [{"image_id": image.id, "caption": f"caption of {image.id}"} for image in SOURCE.split("test")]
    assert json.loads((tmp_path / "captions.json").read_text()) == expected
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.format == "PNG"


def test_other_ranks_write_nothing(tmp_path):
    writer = fed(CaptionWriter(str(tmp_path), samples=2), predictions("test", 0))
    writer.on_test_epoch_end(trainer(first=False), None)
    assert list(tmp_path.iterdir()) == []


class Tables(pl.loggers.WandbLogger):
    """Keeps the tables that it is to log."""

    def __init__(self):
        self.tables = []

    def log_table(self, key, columns, data):
        self.tables.append((key, columns, data))


@pytest.mark.parametrize(
    ("settings", "count"), [({}, 1), ({"first": False}, 0), ({"sanity_checking": True}, 0)]
)
def test_a_validation_logs_a_table_of_pictures_spread_over_the_split(tmp_path, settings, count):
    logger = Tables()
    writer = fed(CaptionWriter(str(tmp_path), samples=2), predictions("val", 0, 1, 2, 3, 4))
    writer.on_validation_epoch_end(trainer([logger], **settings), None)
    assert len(logger.tables) == count
    for key, columns, data in logger.tables:
        assert (key, columns) == ("val/captions", ["id", "image", "generated", "references"])
        images = [SOURCE.split("val")[i] for i in (0, 2)]
        assert [row[0] for row in data] == [image.id for image in images]
        assert [row[2:] for row in data] == [
            [f"caption of {image.id}", "\n".join(image.captions)] for image in images
        ]
