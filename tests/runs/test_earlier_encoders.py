"""Checkpoints of encoders that were lists of stages."""

import pytest
import timm
import torch
import torchvision
from hydra.utils import instantiate
from torch import nn

from autocaption.models.weights import load_weights
from autocaption.runs.checkpoint import load
from autocaption.runs.checkpoint_io import SafeCheckpointIO


def efficientnet():
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    return net, [net.conv_stem, net.bn1, *net.blocks, net.conv_head, net.bn2]


def resnet():
    net = torchvision.models.resnet18()
    net.fc = nn.Identity()
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return net, [stem, net.layer1, net.layer2, net.layer3, net.layer4]


NETS = {"efficientnet": ("tf_efficientnet_lite0", efficientnet), "resnet": ("resnet18", resnet)}


@pytest.fixture(params=NETS)
def saved(request, tmp_path):
    """The net, and the file of a checkpoint as it was until layout 2."""
    name, make = NETS[request.param]
    torch.manual_seed(3)
    net, stages = make()
    state = {f"encoder.stages.{key}": value for key, value in nn.ModuleList(stages).state_dict().items()}
    encoder = {
        "_target_": f"autocaption.models.encoders.{request.param}.{request.param}",
        **{"name": name, "image_size": 64, "pretrained": True, "weights": None, "pooling": "mean"},
        "trainable": "last_stage",
    }
    config = {"model": {"encoder": encoder}, "data": {"crop": 1.0, "augment": False}}
    checkpoint = {
        "recipe": {"layout": 2, "config": config, "vocabulary": ["<pad>"]},
        "state_dict": {"decoder.w": torch.ones(1), **state},
        "ema_weights": {key: value for key, value in state.items() if "running_mean" not in key},
    }
    torch.save(checkpoint, tmp_path / "old.ckpt")
    return net, tmp_path / "old.ckpt"


def test_an_earlier_checkpoint_is_captioned_with_by_today_s_encoder(saved):
    net, file = saved
    checkpoint = load(file)
    encoder = instantiate(checkpoint["recipe"]["config"]["model"]["encoder"], pretrained=False)
    prefix = "encoder."
    state = checkpoint["state_dict"]
    assert state.pop("decoder.w") == 1
    load_weights(encoder, {name.removeprefix(prefix): value for name, value in state.items()})
    for name, value in net.state_dict().items():
        assert encoder.net.state_dict()[name].equal(value)
    assert any(parameter.requires_grad for parameter in encoder.parameters())


def test_an_earlier_run_resumes_with_today_s_names(saved):
    net, file = saved
    checkpoint = SafeCheckpointIO().load_checkpoint(file)
    assert set(checkpoint["state_dict"]) - {"decoder.w"} == {
        f"encoder.net.{name}" for name in net.state_dict()
    }
    assert set(checkpoint["ema_weights"]) < set(checkpoint["state_dict"])
