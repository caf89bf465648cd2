"""What is collected of generated captions, and what CaptionWriter makes of it."""

import json
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from autocaption.callbacks.predictions import CaptionWriter, PredictionCallback
from autocaption.data.sources import CaptionedImage
from autocaption.errors import UserError
from autocaption.models.captioner import Predictions
from autocaption.report.sheet import sheet


class Squares:
    """A source of squares, each of its own brightness, in an order that is not that of their ids."""

    ids = ("c", "a", "e", "b", "d")

    def split(self, name):
        return [CaptionedImage(f"{name}-{id}", None, name, (f"one {id}", f"two {id}")) for id in self.ids]

    def read(self, image, least=None):
        return Image.new("RGB", (8, 8), (40 * self.ids.index(image.id[-1]),) * 3)


class Tables(WandbLogger):
    """Keeps tables, and starts no W&B."""

    def __init__(self):
        self.tables = []

    def log_table(self, key, columns=None, data=None, dataframe=None, step=None):
        self.tables.append((key, columns, data))


def trainer(**changes):
    data = SimpleNamespace(source=Squares(), split_of={"val": "val", "test": "test"}.get)
    values = {"loggers": [], "sanity_checking": False, "is_global_zero": True, **changes}
    return SimpleNamespace(datamodule=data, **values)


def batch(split, *ids):
    return Predictions(
        tuple(f"{split}-{id}" for id in ids),
        [f"caption {id}" for id in ids],
        tuple((f"one {id}", f"two {id}") for id in ids),
    )


def predicted(callback, split, *batches):
    hook = callback.on_test_batch_end if split == "test" else callback.on_validation_batch_end
    for index, ids in enumerate(batches):
        hook(None, None, batch(split, *ids), None, index)
    return callback


ORDER = [f"test-{id}" for id in Squares.ids]


def test_collects_all_batches_in_the_given_order():
    callback = predicted(PredictionCallback(), "test", "ab", "edc")
    found = callback.collect(ORDER)
    assert [one.id for one in found] == ORDER
    assert found[0] == ("test-c", "caption c", ("one c", "two c"))


def test_collects_nothing_twice():
    callback = predicted(PredictionCallback(), "test", "ab")
    assert len(callback.collect(ORDER)) == 2
    assert callback.collect(ORDER) == []
    predicted(callback, "test", "c")
    assert [one.id for one in callback.collect(ORDER)] == ["test-c"]


@pytest.fixture
def two_ranks(monkeypatch):
    """Makes this process one of two ranks; `sent` is what it sends, `received` what the other one sends."""
    ranks = SimpleNamespace(sent=[], received=[])

    def gather(objects, own):
        assert len(objects) == 2
        ranks.sent = own
        objects[:] = [own, ranks.received]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    return ranks


def test_collects_from_all_ranks_in_the_given_order(two_ranks):
    predicted(PredictionCallback(), "test", "ea").collect(ORDER)
    two_ranks.received = two_ranks.sent
    found = predicted(PredictionCallback(), "test", "bc", "d").collect(ORDER)
    assert [one.id for one in found] == ORDER
    assert [one.caption for one in found] == [f"caption {id}" for id in Squares.ids]


def test_test_writes_captions_in_the_order_of_the_split(tmp_path):
    writer = predicted(CaptionWriter(str(tmp_path), samples=2), "test", "bd", "ace")
    writer.on_test_epoch_end(trainer(), None)
    assert json.loads((tmp_path / "captions.json").read_text()) == [
        {"image_id": id, "caption": f"caption {id[-1]}"} for id in ORDER
    ]
    # Two samples spread over five images: the first and the third.
    shown = [image for image in Squares().split("test") if image.id[-1] in "ce"]
    expected = sheet(
        [Squares().read(image) for image in shown],
        [f"caption {image.id[-1]}" for image in shown],
        [image.captions for image in shown],
    )
    found = Image.open(tmp_path / "samples.png")
    assert found.size == expected.size
    assert found.tobytes() == expected.tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.json", "samples.png"]


def test_other_ranks_write_nothing_but_take_part(tmp_path, two_ranks):
    tables = Tables()
    writer = predicted(CaptionWriter(str(tmp_path), samples=2), "test", "ab")
    writer.on_test_epoch_end(trainer(is_global_zero=False), None)
    assert [one.id for one in two_ranks.sent] == ["test-a", "test-b"]
    predicted(writer, "val", "cd")
    writer.on_validation_epoch_end(trainer(is_global_zero=False, loggers=[tables]), None)
    assert [one.id for one in two_ranks.sent] == ["val-c", "val-d"]
    assert tables.tables == []
    assert list(tmp_path.iterdir()) == []


def test_validation_logs_a_table(tmp_path):
    tables, other = Tables(), object()
    writer = predicted(CaptionWriter(str(tmp_path), samples=3), "val", "bd", "ace")
    writer.on_validation_epoch_end(trainer(loggers=[other, tables]), None)
    ((key, columns, rows),) = tables.tables
    assert (key, columns) == ("val/captions", ["id", "image", "generated", "references"])
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (f"val-{id}", f"caption {id}", f"one {id}\ntwo {id}") for id in "cae"
    ]
    assert [row[1].image.getpixel((0, 0))[0] for row in rows] == [0, 40, 80]
    assert list(tmp_path.iterdir()) == []


def test_sanity_check_logs_nothing_and_leaves_nothing_behind(tmp_path):
    tables = Tables()
    writer = predicted(CaptionWriter(str(tmp_path), samples=3), "val", "ab")
    writer.on_validation_epoch_end(trainer(loggers=[tables], sanity_checking=True), None)
    assert tables.tables == []
    predicted(writer, "val", "cd").on_validation_epoch_end(trainer(loggers=[tables]), None)
    assert [row[0] for row in tables.tables[0][2]] == ["val-c", "val-d"]


def test_no_samples_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"samples=0: take a whole number, 1 or more"):
        CaptionWriter(str(tmp_path), samples=0)
