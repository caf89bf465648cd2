"""Several encoders side by side. Legend: B images, P places, D width; C channels, H height, W width."""

import re

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed
from PIL import Image

from autocaption import build
from autocaption.data.stacked import Stacked
from autocaption.data.transforms import Square
from autocaption.errors import UserError
from autocaption.models.captioner import RECIPE
from autocaption.models.encoders.concat import ConcatEncoder
from autocaption.models.encoders.convnet import ConvNet

SIDE_BY_SIDE = (
    *(
        "model=transformer",
        "model/encoder=concat",
        "model.encoder.sources.first.name=test_vit",
        "trainer=cpu",
    ),
    *("model.encoder.sources.first.pretrained=false", "model.encoder.sources.first.image_size=64"),
    *(
        "model.encoder.sources.second.name=mobilenet_v3_small",
        "model.encoder.sources.second.pretrained=false",
    ),
    *("model.encoder.sources.second.image_size=96", "model.decoder.width=16", "model.decoder.heads=2"),
    "model.decoder.layers=1",
)
WORDS = [word for word in TINY if not word.startswith("model.")]
PICTURE = Image.effect_noise((90, 70), 60).convert("RGB")


def built(*words):
    torch.manual_seed(0)
    return build.from_config(composed(*WORDS, *SIDE_BY_SIDE, *words))


@torch.inference_mode()
def test_each_source_sees_its_own_pictures_and_has_its_own_columns():
    data, captioner = built()
    encoder = captioner.encoder.eval()
    first, second = encoder.sources.values()
    squares = [
        Square(one.image_size, one.crop_share, one.fit, one.interpolation)(PICTURE, 0)
        for one in (first, second)
    ]
    memory_BPD = encoder(data.evaluation_transform(PICTURE, 0).unsqueeze(0))
    memories = [one(square.unsqueeze(0)) for one, square in zip((first, second), squares, strict=True)]
    assert [tuple(one.shape[1:]) for one in memories] == [(16, 64), (9, 576)]
    assert memory_BPD.shape == (1, 16 + 9, encoder.out_dim) == (1, 25, 64 + 576)
    expected_BPD = torch.zeros_like(memory_BPD)
    expected_BPD[:, :16, :64], expected_BPD[:, 16:, 64:] = memories
    torch.testing.assert_close(memory_BPD, expected_BPD, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_pooled_sources_lie_side_by_side():
    data, captioner = built("model.encoder.along=width", "model.encoder.pooling=head")
    pictures_BCHW = data.evaluation_transform(PICTURE, 0).unsqueeze(0)
    assert captioner.encoder.eval()(pictures_BCHW).shape == (1, 1, 64 + 1024)
    assert captioner.encoder.grid_side is None
    assert len(captioner.caption(captioner.encoder(pictures_BCHW))) == 1


def test_a_mistaken_choice_of_sources_is_refused_before_the_first_batch():
    def grid(size):
        return ConvNet(size, width=2, out_dim=4, pooling="grid")

    several = ConcatEncoder({"one": grid(32), "other": grid(64)}, "places", "grid", None)
    with pytest.raises(UserError, match="the sources give 4 and 16 places; take places"):
        ConcatEncoder({"one": grid(32), "other": grid(64)}, "width", "grid", None)
    with pytest.raises(UserError, match=r"sources\.other is several encoders itself"):
        ConcatEncoder({"one": grid(32), "other": several}, "places", "grid", None)
    side_by_side = ConcatEncoder({"one": grid(32), "other": grid(32).train()}, "width", "grid", None)
    for one in side_by_side.sources.values():
        assert not one.stages[0][1].num_batches_tracked  # nothing was computed
    pictures_BCHW = torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
    assert side_by_side(pictures_BCHW).shape == (2, 4, 8)


def test_they_are_a_grid_where_their_grids_lie_on_one_another():
    same = "model.encoder.sources.second.image_size=128"  # 4 x 4 places, as of the first
    assert built(same)[1].encoder.grid_side is None  # 32 places one after another
    assert built(same, "model.encoder.along=width")[1].encoder.grid_side == 4
    assert built("model.encoder.along=width", "model.encoder.pooling=head")[1].encoder.grid_side is None


def test_their_features_are_cached_and_a_checkpoint_has_both(tmp_path):
    words = ("data.features=cache", f"data.features_folder={tmp_path}")
    data, captioner = built(*words)
    data.preload("train")
    batch = next(iter(data.train_dataloader()))
    assert batch.features_BPD.shape[1:] == (25, 640)
    checkpoint = {RECIPE: captioner.recipe, "state_dict": captioner.state_dict()}
    loaded, transform, _ = build.for_pictures(checkpoint)  # without pretrained weights
    picture = data.source.read(next(one for one in data.source.split("train") if one.id == batch.ids[0]))
    with torch.inference_mode():
        again_BPD = loaded.encoder(transform(picture, 0).unsqueeze(0))
    torch.testing.assert_close(again_BPD[0], batch.features_BPD[0].float(), rtol=0.01, atol=0.01)


def test_an_ensemble_of_them_gets_the_pictures_of_both():
    _, one = built()
    others = {
        name: value + 0.01 if value.is_floating_point() else value for name, value in one.state_dict().items()
    }
    saved = {"one": {RECIPE: one.recipe, "state_dict": one.state_dict()}}
    saved["other"] = {RECIPE: one.recipe, "state_dict": others}
    data, ensemble = build.from_checkpoints(composed(*WORDS, *SIDE_BY_SIDE), saved)
    with torch.inference_mode():
        memories = ensemble.eval().memory(next(iter(data.val_dataloader())))
    assert [memory_BPD.shape[1:] for memory_BPD in memories] == [(25, 640), (25, 640)]


def test_each_is_trained_and_decayed_from_its_own_last_layer():
    trained = [f"model.encoder.sources.{name}.trainable=all" for name in ("first", "second")]
    _, captioner = built(*trained, "layer_decay=0.5")
    optimizer, _ = captioner.optimizer_and_schedule(total_steps=10)
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    top = optimizer.param_groups[-1]["initial_lr"]
    sources = captioner.encoder.sources
    assert rates[id(sources["first"].net.blocks[-1].mlp.fc1.weight)] == pytest.approx(top)
    assert rates[id(sources["second"].net.features[-1][0].weight)] == pytest.approx(top)
    assert rates[id(sources["first"].net.blocks[-2].mlp.fc1.weight)] == pytest.approx(top / 2)


def test_augmentation_is_the_same_for_each():
    data, _ = built("data/augment=crop_and_flip", "data.augment_crop=1.0")
    flips = set()
    marked = Image.new("RGB", (96, 96))
    marked.paste((255, 255, 255), (0, 0, 48, 96))  # left is white
    for seed in range(8):
        view_CHW = data.training_transform(marked, seed)
        assert view_CHW.shape == (3, 64 + 96, 96)
        left = [view_CHW[0, 10, 2] > 128, view_CHW[0, 64 + 10, 2] > 128]
        assert left[0] == left[1]
        flips.add(bool(left[0]))
    assert flips == {True, False}


def test_transforms_below_one_another():
    square, large = Square(32), Square(48, 0.5)
    stacked = Stacked((square, large))
    view_CHW = stacked(PICTURE, 0)
    assert view_CHW.shape == (3, 80, 48)
    assert view_CHW[:, :32, :32].equal(square(PICTURE, 0))
    assert view_CHW[:, 32:].equal(large(PICTURE, 0))
    assert not view_CHW[:, :32, 32:].any()
    assert stacked.least == large.least
    assert stacked.shape == (80, 48)
    assert view_CHW[:, *stacked.window(large)].equal(large(PICTURE, 0))
    assert stacked.seen(90, 70) == square.seen(90, 70)
    assert re.fullmatch(r"Stacked\(transforms=\(Square\(.*\), Square\(.*\)\)\)", repr(stacked))
