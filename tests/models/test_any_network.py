"""Networks of timm and torchvision by name, small and with random weights.

Legend: B images, P places, D width; C channels, H height, W width.
"""

import re

import pytest
import timm
import torch
import torchvision
from helpers.configs import composed
from helpers.networks import MAKERS, build, pictures, pixels
from hydra.utils import instantiate
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.v2 import functional

from autocaption.data.transforms import Square
from autocaption.errors import UserError

TIMM = (
    *("test_vit", "test_vit4", "test_resnet", "test_convnext", "test_efficientnet"),
    *("test_byobnet", "test_nfnet", "test_mambaout", "mobilenetv3_small_050"),
)
TIMM_SLOW = (
    "test_maxvit",
    *("vit_base_patch16_clip_224.openai", "vit_base_patch16_siglip_224", "vit_small_patch14_reg4_dinov2"),
    *(
        "vit_tiny_patch16_224",
        "eva02_tiny_patch14_224",
        "swin_tiny_patch4_window7_224",
        "convnext_tiny",
        "resnet50",
        "deit3_small_patch16_224",
    ),
)
TORCHVISION = ("mobilenet_v3_small",)
TORCHVISION_SLOW = (
    *(
        "resnet18",
        "resnet152",
        "resnext50_32x4d",
        "convnext_tiny",
        "swin_t",
        "swin_v2_t",
        "vit_b_32",
        "efficientnet_b0",
    ),
    *("mobilenet_v2",),
)


def cases(timm_names, torchvision_names, *marks):
    pairs = [("timm", name) for name in timm_names] + [("torchvision", name) for name in torchvision_names]
    return [pytest.param(*pair, marks=marks, id="-".join(pair)) for pair in pairs]


NETWORKS = cases(TIMM, TORCHVISION) + cases(TIMM_SLOW, TORCHVISION_SLOW, pytest.mark.slow)


def normalised(encoder, images_BCHW):
    floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    return functional.normalize(floats_BCHW, list(encoder.mean), list(encoder.std))


def last_map(library, net, images_BCHW):
    """The last feature map, as the library itself gives it."""
    if library == "timm":
        options = {"indices": 1, "norm": True, "intermediates_only": True}
        return net.forward_intermediates(images_BCHW, **options)[-1]
    maps = []
    hook = net.avgpool.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    net(images_BCHW)
    hook.remove()
    return maps[0]


@pytest.mark.parametrize(("library", "name"), NETWORKS)
@torch.inference_mode()
def test_memory_is_the_library_s(library, name):
    encoders = {pooling: build(library, name, pooling=pooling).eval() for pooling in ("grid", "mean", "head")}
    grid = encoders["grid"]
    images_BCHW = pictures(name)
    memory_BPD, mean_B1D, head_B1D = (encoder(images_BCHW) for encoder in encoders.values())
    for encoder, found in zip(encoders.values(), (memory_BPD, mean_B1D, head_B1D), strict=True):
        assert found.shape == (3, found.shape[1], encoder.out_dim)
        assert encoder.image_size == pixels(name)
    near = {"rtol": 1e-4, "atol": 1e-4 * memory_BPD.abs().max().item()}
    torch.testing.assert_close(memory_BPD.mean(1, keepdim=True), mean_B1D, **near)
    floats_BCHW = normalised(grid, images_BCHW)
    expected_BD = encoders["head"].net(floats_BCHW)  # which has no classifier
    torch.testing.assert_close(head_B1D[:, 0], expected_BD, **near)
    # The libraries don't show that of the last two, and those of the first two are followed by a convolution.
    if name not in ("test_efficientnet", "test_nfnet", "vit_b_32", "mobilenet_v2"):
        map_BDHW = last_map(library, grid.net, floats_BCHW)
        torch.testing.assert_close(memory_BPD, map_BDHW.flatten(2).transpose(1, 2), **near)


@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_what_is_trained_gets_a_gradient_and_nothing_else_changes(library, name):
    counts = {}
    for trainable in ("last_stage", "all"):
        encoder = build(library, name, trainable=trainable).train()
        trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
        counts[trainable] = len(trained)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        memory_BPD = encoder(pictures(name))
        memory_BPD.square().mean().backward()
        assert {key for key, one in encoder.named_parameters() if one.grad is not None} == trained
        after = encoder.state_dict()
        moved = {key.rpartition(".")[0] for key in after if not after[key].equal(before[key])}
        assert moved <= {key.rpartition(".")[0] for key in trained}  # statistics of trained BatchNorms
        assert set(encoder.layers) == trained
    assert 0 < counts["last_stage"] < counts["all"]


@pytest.mark.parametrize("trainable", ["last_stage", "all"])
def test_batch_norms_can_stay_frozen(trainable):
    encoder = build("timm", "test_resnet", trainable=trainable, freeze_norm=True).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder(pictures("")).sum().backward()
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())
    assert any(parameter.requires_grad for parameter in encoder.parameters())


def test_what_is_frozen_drops_nothing_out():
    encoder = build("timm", "test_vit", trainable="last_stage")
    for module in encoder.net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.9
    trained = {name.split(".")[1] for name in encoder.layers if name.startswith("net.blocks")}
    assert not any(module.training for module in encoder.net.blocks[0].modules())
    assert trained == {"blocks"}
    assert all(module.training for module in encoder.net.blocks[-1].modules())
    assert not any(module.training for module in encoder.eval().modules())


@pytest.mark.parametrize(
    ("name", "prefix", "count", "before"),
    [("test_vit", "class", 1, 1), ("vit_small_patch14_reg4_dinov2", "all", 5, 5)],
)
@torch.inference_mode()
def test_class_and_register_tokens_by_option(name, prefix, count, before):
    images_BCHW = pictures(name)
    encoder = build("timm", name, prefix_tokens=prefix).eval()
    tokens_BPD = encoder.net.forward_features(normalised(encoder, images_BCHW))
    expected_BPD = torch.cat([tokens_BPD[:, :count], tokens_BPD[:, before:]], 1)
    assert expected_BPD.shape[1] == 16 + count
    torch.testing.assert_close(encoder(images_BCHW), expected_BPD, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_one_network_of_every_family_of_timm():
    families = {}
    for name in timm.list_models():
        families.setdefault(timm.models.model_entrypoint(name).__module__, []).append(name)
    refused = {}
    for family, names in families.items():
        small = [name for name in names if re.search("test|tiny|nano|small|xxs|_s$|atto|pico|b0|18", name)]
        name = min(small or names, key=len)
        try:
            encoder = build("timm", name, image_size=None)
        except UserError as error:
            refused[family.rpartition(".")[2]] = str(error)
        else:
            assert encoder.out_dim == encoder.net.num_features
    assert refused.keys() <= {"coat", "crossvit", "efficientvim"}
    assert all("several feature maps" in line for line in refused.values())
    assert len(families) > 60


def prepared(encoder, picture):
    colour = tuple(round(255 * mean) for mean in encoder.mean) if encoder.fit == "pad" else None
    square = Square(encoder.image_size, encoder.crop_share, encoder.fit, encoder.interpolation, colour)
    return encoder.normalize(square(picture, 0).unsqueeze(0))[0]


def photograph(width, height):
    """Smooth noise."""
    torch.manual_seed(0)
    small = functional.to_pil_image(torch.randint(256, (3, 9, 12), dtype=torch.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def differs(one, other):
    """The 99th percentile: rounding to bytes makes some of a level's difference anywhere."""
    return (one - other).abs().flatten().quantile(0.99).item()


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])  # bicubic and bilinear
def test_pictures_are_prepared_as_timm_does(name, mode, monkeypatch):
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    data |= {"crop_mode": mode, "crop_pct": 0.8}
    monkeypatch.setattr(timm.data, "resolve_model_data_config", lambda net: data)
    encoder, picture = build("timm", name, image_size=None), photograph(400, 300)
    assert encoder.image_size == 160
    expected = timm.data.create_transform(**data, is_training=False)(picture)
    assert differs(prepared(encoder, picture), expected) < 0.02  # a level is 1 / (255 * 0.23)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.IMAGENET1K_V1", "mobilenet_v3_small"])
def test_pictures_are_prepared_as_torchvision_does(name):
    encoder, picture = build("torchvision", name, image_size=None), photograph(400, 300)
    weights = torchvision.models.get_model_weights(name.partition(".")[0]).DEFAULT
    assert differs(prepared(encoder, picture), weights.transforms()(picture)) < 0.02


def test_published_results_keep_their_pictures():
    encoder = instantiate(composed("model/encoder=efficientnet_lite0").model.encoder, pretrained=False)
    assert (encoder.image_size, encoder.fit, encoder.crop_share) == (224, "crop", 1.0)
    assert encoder.interpolation == "bilinear"


FILES = {
    "plain.pth": torch.save,
    "wrapped.pth": lambda state, file: torch.save({f"module.{k}": v for k, v in state.items()}, file),
    "within.pth": lambda state, file: torch.save({"epoch": 3, "state_dict": state}, file),
    "plain.safetensors": lambda state, file: save_file(state, file),
}


@pytest.mark.parametrize(
    ("library", "name", "file"),
    [*(("timm", "test_vit", file) for file in FILES), ("torchvision", "mobilenet_v3_small", "wrapped.pth")],
)
def test_weights_of_a_file(library, name, file, tmp_path):
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    torch.manual_seed(7)
    net = make(name)
    FILES[file](net.state_dict(), tmp_path / file)
    encoder = build(library, name, pretrained=True, weights=str(tmp_path / file), image_size=160)
    whole = net.state_dict()
    for key, value in encoder.net.state_dict().items():
        assert value.equal(whole[key]), key


def test_position_embeddings_are_resized_to_the_pictures(tmp_path):
    net = timm.create_model("test_vit")
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    encoder = build("timm", "test_vit", pretrained=True, weights=str(tmp_path / "net.safetensors"))
    expected = timm.layers.resample_abs_pos_embed(net.pos_embed, [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(encoder.net.pos_embed, expected)


def test_two_of_a_kind_share_their_features_and_others_do_not():
    def described(**changes):
        return repr(build("timm", "test_vit", **changes))

    assert described() == described()
    assert len({described(**one) for one in ({}, {"pooling": "head"}, {"prefix_tokens": "class"})}) == 3


MISTAKES = {
    ("timm", "resnet19"): "timm has no such model; did you mean .*resnet18",
    ("timm", "resnet18.a9_in1k"): r"timm has no such model; did you mean .*resnet18\.a1_in1k",
    ("timm", "xyzzy"): "none of its names is similar",
    ("timm", None): "model.encoder.name=None",
    ("timm", "coat_tiny"): "coat_tiny doesn't encode pictures .* several feature maps",
    ("torchvision", "resnet19"): "torchvision has no such model; did you mean .*resnet18",
    ("torchvision", "resnet50.V3"): r"did you mean .*resnet50\.IMAGENET1K_V[12]",
    ("torchvision", "mnasnet0_5"): "mnasnet0_5: of torchvision take a resnet, .*model/encoder=timm",
}


@pytest.mark.parametrize(("library", "name", "said"), [(*one, said) for one, said in MISTAKES.items()])
def test_a_name_that_is_no_encoder_is_one_line(library, name, said):
    with pytest.raises(UserError, match=said) as raised:
        MAKERS[library](name, 64, False, None, "mean", "none")
    assert len(str(raised.value).splitlines()) == 1


WISHES = {
    "size": ("test_vit", {"image_size": 16}, "image_size=16: take a whole number, from 32"),
    "patches": (
        "vit_tiny_patch16_224",
        {"prefix_tokens": "class", "pooling": "mean"},
        "needs .*pooling=grid",
    ),
    "no token": ("test_resnet", {"prefix_tokens": "class"}, "test_resnet has no class token; take none"),
    "crop": ("test_resnet", {"crop_share": 0}, r"model\.encoder\.crop_share=0: take a number, above 0"),
    "fit": ("test_resnet", {"fit": "stretch"}, r"model\.encoder\.fit=stretch: take crop.*pad"),
    "stages": ("caformer_s18", {"trainable": "last_stage"}, "the stages of caformer_s18 are unknown"),
    "checkpointing": ("convit_tiny", {"gradient_checkpointing": True}, "timm can't do it for convit_tiny"),
    "weights": ("vit_base_patch16_plus_240", {"pretrained": True}, "timm has no weights of vit_base"),
}


@pytest.mark.parametrize(("name", "changes", "said"), WISHES.values(), ids=WISHES)
def test_what_a_network_cannot_do_is_one_line(name, changes, said):
    with pytest.raises(UserError, match=said):
        build("timm", name, **changes)


def test_a_size_that_the_patches_do_not_divide_is_one_line():
    with pytest.raises(UserError, match=r"image_size doesn't suit vit_b_32: .*patch size"):
        build("torchvision", "vit_b_32", image_size=100)
