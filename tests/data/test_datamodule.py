"""Batches of the DataModule: order, augmentation, splits, ranks, checks.

Legend: B images, N captions an image, T time; C channels, H height, W width.
"""

import gc
import types

import pytest
import torch
from helpers.augmentation import crop_and_flip
from PIL import Image

from autocaption.data.broken_pictures import WithoutBroken
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.manifest import Manifest
from autocaption.data.sources import CaptionedImage
from autocaption.data.sources.flickr8k import flickr8k as source_of
from autocaption.data.sources.own_pictures import folder
from autocaption.data.sources.shapes import Shapes
from autocaption.data.tokenizer import WordTokenizer, words
from autocaption.data.transforms import Square
from autocaption.errors import UserError


def datamodule(source=None, **changes):
    source = source or Shapes(seed=0, size=32, train=13, val=7, test=6)
    captions = [caption for image in source.split("train") for caption in image.captions]
    arguments = {
        "tokenizer": WordTokenizer(words, min_count=1, max_length=5).fit(captions),
        "training_transform": crop_and_flip(16, 0.5),
        "evaluation_transform": Square(16),
        "batch_size": 4,
        "num_workers": 0,
        "seed": 3,
    }
    return CaptionDataModule(source, **arguments | changes)


def batches(loader, epoch=0):
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return list(loader)


def ids(found):
    return [name for batch in found for name in batch.ids]


def assert_texts_belong_to_ids(data, split, found):
    """Rows of tokens are the captions of the id in their place, cut to the tokenizer's length."""
    captions = {image.id: image.captions for image in data.source.split(split)}
    known = {word for image in data.source.split("train") for text in image.captions for word in words(text)}

    def kept(caption):
        return " ".join(word if word in known else "<unk>" for word in words(caption)[:5])

    for batch in found:
        assert batch.tokens_BNT.shape[:2] == (len(batch), 5)
        for i, name in enumerate(batch.ids):
            decoded = [data.tokenizer.decode(tokens_T) for tokens_T in batch.tokens_BNT[i].tolist()]
            assert decoded == list(map(kept, captions[name]))


def test_training_batches_are_image_major():
    data = datamodule()
    found = batches(data.train_dataloader())
    assert sorted(ids(found)) == sorted(image.id for image in data.source.split("train"))
    assert [len(batch) for batch in found] == [4, 4, 4, 1]
    assert_texts_belong_to_ids(data, "train", found)
    for batch in found:
        assert batch.references == ()
        assert batch.features_BPD is None
        assert batch.images_BCHW.shape == (len(batch), 3, 16, 16)
        assert batch.images_BCHW.dtype == torch.uint8


@pytest.mark.parametrize(("split", "loader"), [("val", "val_dataloader"), ("test", "test_dataloader")])
def test_evaluation_batches_are_the_split_in_order_with_whole_references(split, loader):
    data = datamodule()
    found = batches(getattr(data, loader)())
    images = data.source.split(split)
    assert ids(found) == [image.id for image in images]
    assert_texts_belong_to_ids(data, split, found)
    references = [texts for batch in found for texts in batch.references]
    assert references == [image.captions for image in images]  # as written
    pictures_CHW = [picture_CHW for batch in found for picture_CHW in batch.images_BCHW]
    for image, picture_CHW in zip(images, pictures_CHW, strict=True):
        assert torch.equal(picture_CHW, Square(16)(data.source.read(image), seed=0))


def test_batches_do_not_depend_on_the_number_of_workers():
    alone, helped = datamodule().train_dataloader(), datamodule(num_workers=2).train_dataloader()
    for epoch in (0, 1):
        for one, other in zip(batches(alone, epoch), batches(helped, epoch), strict=True):
            assert one.ids == other.ids
            assert torch.equal(one.images_BCHW, other.images_BCHW)
            assert torch.equal(one.tokens_BNT, other.tokens_BNT)


def views(data, epoch):
    found = batches(data.train_dataloader(), epoch)
    return dict(zip(ids(found), torch.cat([batch.images_BCHW for batch in found]), strict=True))


def test_augmentation_depends_on_seed_epoch_and_image_only():
    first = views(datamodule(), 1)
    torch.manual_seed(99)
    again = views(datamodule(batch_size=5), 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (views(datamodule(), 2), views(datamodule(seed=4), 1)):
        assert sum(torch.equal(first[name], other[name]) for name in first) < len(first) / 2


def test_each_image_is_augmented_in_its_own_way():
    source = Shapes(seed=0, size=20, train=12, val=1, test=1)
    picture = Image.effect_noise((20, 20), 90).convert("RGB")
    source.read = lambda image, least: picture  # the same for all
    pictures = list(views(datamodule(source), 1).values())
    assert not all(torch.equal(one, pictures[0]) for one in pictures)


def test_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        return ids(batches(datamodule(seed=seed).train_dataloader(), epoch))

    assert order(3, 0) == order(3, 0)
    assert order(3, 0) not in (order(3, 1), order(4, 0))


@pytest.mark.parametrize(("split", "test"), [("test", "test"), ("val", "val"), ("train", "train")])
def test_split_of_a_stage(split, test):
    data = datamodule(split=split)
    assert [data.split_of(stage) for stage in ("train", "val", "test")] == ["train", "val", test]
    found = batches(data.test_dataloader())
    assert ids(found) == [image.id for image in data.source.split(test)]
    assert all(batch.references for batch in found)


def test_check_finds_a_broken_image(flickr8k):
    data = datamodule(source_of(str(flickr8k)))
    data.preload("train", "val", "test")
    broken = flickr8k / "Flicker8k_Dataset" / "v1.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    data.preload("train", "test")
    with pytest.raises(UserError, match=f"broken image: {broken}"):
        data.preload("train", "val")
    datamodule(source_of(str(flickr8k)), check_images=False).preload("train", "val")


class Own:
    """A source of one's own that gives these images for validation."""

    def __init__(self, *ids):
        self.ids = ids

    def split(self, name):
        ids = self.ids if name == "val" else ("a",)
        return [CaptionedImage(id, None, name, ("a dog",)) for id in ids]


@pytest.mark.parametrize(("given", "said"), [("", "has no image"), ("bab", "has image b 2 times")])
def test_what_a_source_of_one_s_own_must_not_give_is_said(given, said):
    with pytest.raises(UserError, match=f"split 'val' {said}"):
        datamodule(Own(*given)).val_dataloader()


def test_a_source_without_files_has_nothing_to_check():
    data = datamodule()
    data.source.read = None  # would fail if called
    data.preload("train")
    assert data.source.split("train")[0].path is None


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_batch_moves_whole(device):
    (batch, *_) = batches(datamodule().val_dataloader())
    moved = batch.to(device)
    assert {moved.tokens_BNT.device.type, moved.images_BCHW.device.type} == {device}
    assert (moved.ids, moved.references, moved.features_BPD) == (batch.ids, batch.references, None)


def objects_below(root):
    """How many Python objects hang on one, code left out."""
    code = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    seen, left = set(), [root]
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, code):
            seen.add(id(one))
            left += gc.get_referents(one)
    return len(seen)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("on_broken", ["stop", "skip"])
def test_workers_share_arrays_instead_of_objects_for_each_image(split, on_broken, tmp_path):
    counts = []
    for images in (6, 60):
        root = tmp_path / f"{images}"
        root.mkdir()
        rows = [(f"{i}.png", f"A dog, {i}", ("train", "val")[i % 2]) for i in range(images)]
        rows += [("x.png", "A cat", "test")]
        for name, *_ in rows:
            Image.new("RGB", (8, 8)).save(root / name)
        text = "".join(f'{name},"{text}",{part}\n' for name, text, part in rows)
        (root / "captions.csv").write_text(f"image,caption,split\n{text}")
        source = folder(str(root))
        data = datamodule(WithoutBroken(source, Manifest(None)) if on_broken == "skip" else source)
        data.train_dataloader()
        dataset = (data.train_dataloader() if split == "train" else data.val_dataloader()).dataset
        assert len(dataset) == images // 2
        counts.append(objects_below((dataset.ids, dataset.tokens, dataset.referred, dataset.inputs.images)))
    assert counts[0] == counts[1]


def resumed(world, rank, position, batch_size=4, accumulate=1, images=26, late=False):
    """(DataModule of a rank that resumes at (epoch, images), the ids that it trains on in that epoch)."""
    epoch, trained = position
    data = datamodule(Shapes(seed=0, size=32, train=images, val=7, test=6), batch_size=batch_size)
    data.trainer = types.SimpleNamespace(
        global_rank=rank, world_size=world, accumulate_grad_batches=accumulate, overfit_batches=0
    )
    early = data.train_dataloader() if late else None
    data.load_state_dict({"epoch": epoch, "images": trained})
    return data, ids(batches(early or data.train_dataloader(), epoch))


def whole_epoch(images=26):
    return ids(
        batches(datamodule(Shapes(seed=0, size=32, train=images, val=7, test=6)).train_dataloader(), 2)
    )


@pytest.mark.parametrize(("world", "batch_size", "accumulate"), [(1, 4, 1), (2, 4, 1), (2, 2, 2), (3, 4, 1)])
def test_other_ranks_go_on_where_the_checkpoint_was(world, batch_size, accumulate, caplog):
    trained = batch_size * world * accumulate
    found = [resumed(world, rank, (2, trained), batch_size, accumulate) for rank in range(world)]
    left = [name for _, names in found for name in names]
    assert set(left) == set(whole_epoch()[trained:]) | set(left[26 - trained :])
    assert {data.resumed_batches() for data, _ in found} == {accumulate}
    assert len({len(names) for _, names in found}) == 1 or world == 3
    assert caplog.messages == []


def test_a_loader_that_was_made_before_the_restore_goes_on_there_too():
    """As under trainer=fsdp, where the schedule asks for the number of batches before Lightning restores."""
    assert resumed(1, 0, (2, 8), late=True)[1] == resumed(1, 0, (2, 8))[1] == whole_epoch()[8:]


@pytest.mark.parametrize(("world", "batch_size", "accumulate"), [(2, 3, 1), (2, 2, 2), (1, 5, 1), (3, 4, 1)])
def test_other_ranks_start_the_epoch_anew_where_no_step_ends_there_and_say_so(
    world, batch_size, accumulate, caplog
):
    found = [resumed(world, rank, (2, 4), batch_size, accumulate) for rank in range(world)]
    assert {name for _, names in found for name in names} == set(whole_epoch())
    assert {data.resumed_batches() for data, _ in found} == {0}
    assert {*caplog.messages} == {
        "No step of this batch size and number of devices ends at image 4 of epoch 3; "
        "resuming from the start of the epoch"
    }
