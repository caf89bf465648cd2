"""EfficientNets as encoders."""

from typing import Any

import timm
from torch import nn

from autocaption.models.encoders.backbone import BackboneEncoder, Pooling, Trainable
from autocaption.models.encoders.backbone import pretrained as with_weights


def efficientnet(
    name: str, image_size: int, pretrained: bool, weights: str | None, pooling: Pooling, trainable: Trainable
) -> BackboneEncoder:
    """An EfficientNet of timm (Tan & Le 2019; Lite variants without squeeze-and-excitation).

    Args:
        name: as timm names it: tf_efficientnet_lite0, tf_efficientnet_lite2.
        image_size: side of the pictures in pixels.
        pretrained: whether to load ImageNet weights; else weights are random.
        weights: a local state dict in timm's format, instead of the download.
        pooling: `mean` or `grid` (7 x 7 at 224 pixels).
        trainable: `none`, `last_stage` (the last group of blocks and the head convolution) or `all`.

    Raises:
        UserError: the weights cannot be loaded.
    """

    def make(download: bool) -> nn.Module:
        return timm.create_model(name, pretrained=download, num_classes=0)

    net: Any = with_weights(make, name, pretrained, weights, head="classifier.")
    return BackboneEncoder(
        stages=[net.conv_stem, net.bn1, *net.blocks, net.conv_head, net.bn2],
        out_dim=net.num_features,
        image_size=image_size,
        mean=net.pretrained_cfg["mean"],
        std=net.pretrained_cfg["std"],
        pooling=pooling,
        trainable=trainable,
    )
