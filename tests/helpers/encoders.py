"""What tests of encoders share. Legend: B images; C channels, H height, W width."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import timm
import torch
import torchvision
from hydra.utils import get_object
from torch import nn

from helpers import CONF
from helpers.configs import composed

SMALL = {"timm": {"name": "test_resnet"}, "torchvision": {"name": "resnet18"}}  # for choices of any name
CONFIGS = {
    file.stem: {**composed(f"model/encoder={file.stem}").model.encoder, **SMALL.get(file.stem, {})}
    for file in sorted((CONF / "model/encoder").glob("*.yaml"))
    if file.stem != "concat"  # several of the others
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


def pictures(side=SIZE):
    """Three pictures of noise, images_BCHW."""
    torch.manual_seed(1)
    return torch.randint(256, (3, 3, side, side), dtype=torch.uint8)


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
