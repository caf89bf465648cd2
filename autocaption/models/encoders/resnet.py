"""ResNets as encoders."""

from typing import Any

import torchvision
from torch import nn

from autocaption.models.encoders.backbone import BackboneEncoder, Pooling, Trainable
from autocaption.models.encoders.backbone import pretrained as with_weights


def resnet(
    name: str, image_size: int, pretrained: bool, weights: str | None, pooling: Pooling, trainable: Trainable
) -> BackboneEncoder:
    """A ResNet of torchvision (He et al. 2016), with its ImageNet weights.

    Args:
        name: as torchvision names it: resnet50, resnet101.
        image_size: side of the pictures in pixels.
        pretrained: whether to load ImageNet weights; else weights are random.
        weights: a local state dict in torchvision's format, instead of the download.
        pooling: `mean` or `grid` (7 x 7 at 224 pixels).
        trainable: `none`, `last_stage` (layer4) or `all`.

    Raises:
        UserError: the weights cannot be loaded.
    """
    published = torchvision.models.get_model_weights(name).DEFAULT

    def make(download: bool) -> nn.Module:
        net: Any = torchvision.models.get_model(name, weights=published if download else None)
        net.fc = nn.Identity()
        return net

    net: Any = with_weights(make, name, pretrained, weights, head="fc.")
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    normal = published.transforms()
    return BackboneEncoder(
        stages=[stem, net.layer1, net.layer2, net.layer3, net.layer4],
        out_dim=2048,
        image_size=image_size,
        mean=normal.mean,
        std=normal.std,
        pooling=pooling,
        trainable=trainable,
    )
