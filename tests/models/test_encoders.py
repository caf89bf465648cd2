"""What every encoder of conf/ promises, and what those with published weights do.

Legend: B images, P places, D width; C channels, H height, W width.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn
from torchvision.transforms.v2 import functional

from autocaption.errors import UserError
from autocaption.features.folding import folded
from autocaption.models.encoders.backbone import Normalize

CONFIGS = {
    file.stem: OmegaConf.load(file)
    for file in sorted((Path(__file__).parents[2] / "conf/model/encoder").glob("*.yaml"))
}
PUBLISHED = [name for name, config in CONFIGS.items() if "pretrained" in config]
SIZE = 64


def build(encoder, **changes):
    """An encoder of conf/, for small pictures and by default without a download."""
    config = dict(CONFIGS[encoder])
    changes = {"image_size": SIZE, "pretrained": False, **changes}
    make = get_object(config.pop("_target_"))
    torch.manual_seed(0)
    return make(**{**config, **{key: value for key, value in changes.items() if key in config}})


@pytest.fixture(name="images_BCHW", scope="module")
def images():
    torch.manual_seed(1)
    return torch.randint(256, (3, 3, SIZE, SIZE), dtype=torch.uint8)


class Reference(NamedTuple):
    """A random backbone as its library makes it."""

    net: nn.Module
    features: Callable
    last_stage: tuple[nn.Module, ...]
    classifier: nn.Module
    normal: tuple  # mean and std


@functools.cache
def efficientnet():
    net = timm.create_model("tf_efficientnet_lite0").eval()
    last = (net.blocks[-1], net.conv_head, net.bn2)
    return Reference(net, net.forward_features, last, net.classifier, ([0.5] * 3, [0.5] * 3))


@functools.cache
def resnet():
    net = torchvision.models.resnet50().eval()
    features = nn.Sequential(*list(net.children())[:-2])
    normal = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return Reference(net, features, (net.layer4,), net.fc, normal)


REFERENCES = {"efficientnet_lite0": efficientnet, "resnet50": resnet}


def size(*tensors):
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("encoder", CONFIGS)
@torch.no_grad()
def test_memory_shape(encoder, images_BCHW):
    for pooling in {CONFIGS[encoder].get("pooling"), "grid"}:
        module = build(encoder, pooling=pooling).eval()
        memory_BPD = module(images_BCHW)
        B, P, D = memory_BPD.shape
        assert (B, D, memory_BPD.dtype) == (3, module.out_dim, torch.float32)
        assert module.image_size == SIZE
        if "pooling" in CONFIGS[encoder]:
            assert P > 1 if pooling == "grid" else P == 1
        assert SIZE % math.sqrt(P) == 0  # the places are a square grid
        near = 1e-4 * memory_BPD.abs().max().item()  # random deep networks give large numbers
        torch.testing.assert_close(module(images_BCHW[1:2]), memory_BPD[1:2], atol=near, rtol=0)


@torch.no_grad()
def test_convnet_vector_sees_where_things_are(images_BCHW):
    encoder = build("convnet", pooling="vector").eval()
    assert not torch.allclose(encoder(images_BCHW), encoder(images_BCHW.flip(-1)), atol=1e-3)


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_frozen_means_unchanged_by_training(encoder, images_BCHW):
    module = build(encoder, trainable="none").train()
    assert not any(p.requires_grad for p in module.parameters())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert not module(images_BCHW).requires_grad
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("encoder", REFERENCES)
@pytest.mark.parametrize("trainable", ["last_stage", "all"])
def test_only_what_is_trainable_changes(encoder, trainable, images_BCHW):
    reference = REFERENCES[encoder]()
    states = [stage.state_dict().values() for stage in reference.last_stage]
    expected = sum(size(*state) for state in states)
    if trainable == "all":
        expected = size(*reference.net.state_dict().values()) - size(*reference.classifier.parameters())
    module = build(encoder, trainable=trainable).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 1e-3, weight_decay=0.1)
    for _ in range(2):  # in train() after eval() too, as between a validation and the next epoch
        module.eval().train()
        module(images_BCHW).square().mean().backward()
        optimizer.step()
    after = module.state_dict()
    changed = [value for key, value in after.items() if not torch.equal(before[key], value)]
    assert size(*changed) == expected
    assert all(value.isfinite().all() for value in changed)


@pytest.mark.parametrize("encoder", REFERENCES)
@torch.no_grad()
def test_weights_of_a_file(encoder, images_BCHW, tmp_path):
    reference = REFERENCES[encoder]()
    file = tmp_path / "net.pt"
    torch.save(reference.net.state_dict(), file)  # with its classifier
    floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    grid_BDHW = reference.features(functional.normalize(floats_BCHW, *reference.normal))
    grid_BPD = grid_BDHW.flatten(2).transpose(1, 2)
    for pooling, expected_BPD in (("grid", grid_BPD), ("mean", grid_BPD.mean(1, keepdim=True))):
        module = build(encoder, pretrained=True, weights=str(file), pooling=pooling).eval()
        torch.testing.assert_close(module(images_BCHW), expected_BPD, atol=1e-4, rtol=1e-4)


def refusal(encoder, file):
    with pytest.raises(UserError, match=r"model\.encoder\.weights") as raised:
        build(encoder, pretrained=True, weights=str(file) if file else None)
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_a_missing_file_is_named(encoder, tmp_path):
    assert "gone.pt" in refusal(encoder, tmp_path / "gone.pt")


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_failed_download_names_the_alternative(encoder, monkeypatch):
    def offline(make, asked):
        def made(*words, **options):
            if options.get(asked):
                raise OSError("no network")
            return make(*words, **options)

        return made

    monkeypatch.setattr(timm, "create_model", offline(timm.create_model, "pretrained"))
    get_model = offline(torchvision.models.get_model, "weights")
    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    assert CONFIGS[encoder].get("name", encoder) in refusal(encoder, None)


CONTENTS = {
    "no torch file": b"no weights\n",
    "broken zip": b"PK\x03\x04 weights",
    "empty": b"",  # EOFError without words
    "text": b"hello weights\n",  # KeyError
    "letters": b"rgb weights\n",  # IndexError
    "half a number": b"j",  # struct.error
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_file_that_is_no_state_dict_is_refused(content, tmp_path):
    (tmp_path / "notes.txt").write_bytes(content)
    assert "notes.txt" in refusal("efficientnet_lite0", tmp_path / "notes.txt")


@pytest.mark.parametrize("state", [{"weight": torch.zeros(2)}, {}, [1], {1: 2}, torch.zeros(2)], ids=repr)
@pytest.mark.parametrize("encoder", REFERENCES)
def test_a_state_dict_of_another_net_is_refused(encoder, state, tmp_path):
    torch.save(state, tmp_path / "other.pt")
    assert "other.pt" in refusal(encoder, tmp_path / "other.pt")


def test_half_a_state_dict_is_refused(tmp_path):
    state = efficientnet().net.state_dict()
    del state["conv_stem.weight"]
    torch.save(state, tmp_path / "half.pt")
    assert "half.pt" in refusal("efficientnet_lite0", tmp_path / "half.pt")


def norms(encoder):
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


def lived_in(encoder):
    """With norms that are not the identity."""
    for norm in norms(encoder):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    return encoder.eval()


@pytest.mark.parametrize("encoder", CONFIGS)
@torch.no_grad()
def test_folded_encoder_gives_the_same_without_norms(encoder, images_BCHW):
    whole = lived_in(build(encoder))
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    found = folded(whole, images_BCHW[:1])
    assert norms(whole)
    assert not norms(found)
    wanted = whole(images_BCHW)
    torch.testing.assert_close(found(images_BCHW), wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())


class Shortcut(nn.Module):
    """What a convolution gives goes to its norm and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images_BCHW):
        out_BCHW = self.conv(images_BCHW / 255)
        return out_BCHW + self.norm(out_BCHW)


@torch.no_grad()
def test_encoder_that_folding_would_change_is_kept(images_BCHW):
    encoder = lived_in(Shortcut())
    assert folded(encoder, images_BCHW) is encoder


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_equals_torchvision_for_every_byte_and_channel():
    images_BCHW = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    expected_BCHW = functional.normalize(floats_BCHW, list(MEAN), list(STD))
    torch.testing.assert_close(Normalize(MEAN, STD)(images_BCHW), expected_BCHW, atol=2e-6, rtol=0)


def test_constants_follow_the_module_but_not_the_checkpoint():
    module = Normalize(MEAN, STD).double()
    assert module(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == torch.float64
    assert module.state_dict() == {}
