"""The classifiers of torchvision, by name.

Legend: B images, P places, D width; C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import (
    ConvNeXt,
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
    ResNet,
    SwinTransformer,
    VisionTransformer,
)
from torchvision.models.vision_transformer import interpolate_embeddings

from autocaption.checks import choice
from autocaption.data.transforms import Fit, Interpolation
from autocaption.errors import UserError
from autocaption.models.encoders.backbone import BackboneEncoder, Matcher, Pooling, Trainable, side
from autocaption.models.encoders.pretrained import pretrained as with_weights
from autocaption.models.encoders.pretrained import unknown
from autocaption.models.weights import load_weights

Places = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class TorchvisionMemory:
    """What of a network's features is the memory.

    Args:
        pooling: see `torchvision_encoder`.
        places: (net, normalised images_BCHW) to the last places_BPD, by the network's family.
    """

    pooling: Pooling
    places: Places = field(repr=False)

    def __call__(self, net: Any, images_BCHW: Tensor) -> Tensor:
        """Normalised images to memory_BPD."""
        if self.pooling == "head":
            return net(images_BCHW).unsqueeze(1)
        places_BPD = self.places(net, images_BCHW)
        return places_BPD.mean(1, keepdim=True) if self.pooling == "mean" else places_BPD


def torchvision_encoder(
    name: str,
    image_size: int | None,
    pretrained: bool,
    weights: str | None,
    pooling: Pooling,
    trainable: Trainable,
    freeze_norm: bool = False,
    fit: Fit | None = None,
    crop_share: float | None = None,
    interpolation: Interpolation | None = None,
) -> BackboneEncoder:
    """A classifier of torchvision, with its ImageNet weights.

    Args:
        name: as torchvision names it, with or without the name of its weights: resnet50, convnext_tiny,
            resnet50.IMAGENET1K_V1.
        image_size: side of the pictures in pixels; None for what the weights were trained with.
        pretrained: whether to load published weights; else weights are random.
        weights: a local state dict (.pth or .safetensors) in torchvision's format, instead of the download.
        pooling: the `grid` of places, their `mean`, or one vector as the network's own `head` pools them,
            without its last layer.
        trainable: see `BackboneEncoder`, as for freeze_norm.
        freeze_norm: whether BatchNorms stay frozen.
        fit: how pictures are made square; None as the weights want it, likewise for the next two.
        crop_share: the share of the square's side that is kept.
        interpolation: of the resizing.

    Raises:
        UserError: torchvision has no such model, or the weights can't be loaded.
    """
    choice("model.encoder.pooling", pooling, get_args(Pooling))
    published = _published(name)
    wants: Any = published.transforms()
    (crop,), (resize,) = wants.crop_size, wants.resize_size
    size = side(image_size, crop)
    architecture = name.partition(".")[0]
    # Only vision transformers take a size, since their position embeddings depend on it.
    options: dict[str, Any] = {"image_size": size} if architecture.startswith("vit_") else {}

    def adapted(state: dict[str, Any], net: Any) -> Any:
        gone = {key for key, module in net.named_modules() if isinstance(module, nn.Identity)}
        state = {key: value for key, value in state.items() if key.rpartition(".")[0] not in gone}
        return interpolate_embeddings(size, net.patch_size, state) if options else state

    def make(download: bool) -> nn.Module:
        net = torchvision.models.get_model(architecture, weights=None, **options)
        *_, last = (key for key, module in net.named_modules() if isinstance(module, nn.Linear))
        net.set_submodule(last, nn.Identity())
        if download:
            load_weights(net, adapted(published.get_state_dict(progress=True, check_hash=True), net))
        return net

    net = with_weights(make, adapted, name, pretrained, weights)
    places, matcher = _family(net, name)
    return BackboneEncoder(
        net,
        name,
        TorchvisionMemory(pooling, places),
        pooling,
        matcher,
        trainable,
        freeze_norm,
        image_size=size,
        mean=wants.mean,
        std=wants.std,
        fit=fit or "crop",
        crop_share=crop / resize if crop_share is None else crop_share,
        interpolation=interpolation or wants.interpolation.value,
    )


def _published(name: str) -> Any:
    """The weights of a model that torchvision has published."""
    architecture, _, which = str(name).partition(".")
    names = torchvision.models.list_models(module=torchvision.models)
    if architecture not in names:
        raise unknown("torchvision", name, names)
    weights: Any = torchvision.models.get_model_weights(architecture)
    if which and which not in [one.name for one in weights]:
        raise unknown("torchvision", name, [f"{architecture}.{one.name}" for one in weights])
    return weights[which] if which else weights.DEFAULT


def _family(net: Any, name: str) -> tuple[Places, Matcher]:
    """How a network gives its places, and the matcher of its layers and stages."""
    match net:
        case ResNet():
            return _resnet, partial(_matcher, stem="conv1|bn1", stage=r"layer(\d+)", block=r"\.(\d+)")
        case ConvNeXt():
            return _features, partial(_matcher, stage=r"features\.(\d+)", block=r"\.(\d+)")
        case EfficientNet() | MobileNetV2() | MobileNetV3():
            last = rf"features\.{len(net.features) - 1}\."  # a convolution that widens what the blocks give
            return _features, partial(_matcher, stage=r"features\.(\d+)", block=r"\.(\d+)", last=last)
        case SwinTransformer():
            return _swin, partial(_matcher, stage=r"features\.(\d+)", block=r"\.(\d+)")
        case VisionTransformer():
            stem = r"conv_proj|class_token|encoder\.pos_embedding"
            return _vision_transformer, partial(
                _matcher, stem=stem, stage=r"encoder\.layers\.encoder_layer_(\d+)"
            )
    raise UserError(
        f"model.encoder.name={name}: of torchvision take a resnet, resnext, convnext, efficientnet, "
        "mobilenet, swin or vit; model/encoder=timm has the others"
    )


def _matcher(
    coarse: bool, stage: str, stem: str | None = None, block: str = "", last: str | None = None
) -> dict[str, Any]:
    """A matcher in timm's format: stem, then stages or their blocks; `last` belongs to the stage before."""
    patterns: list[Any] = [(last, (99999,))] if last else []
    if block and not coarse:
        patterns.append((stage + block, None))
    patterns.append((stage, None))
    return {**({"stem": stem} if stem else {}), "blocks": patterns}


def _resnet(net: Any, images_BCHW: Tensor) -> Tensor:
    grid_BDHW = net.maxpool(net.relu(net.bn1(net.conv1(images_BCHW))))
    return _flat(net.layer4(net.layer3(net.layer2(net.layer1(grid_BDHW)))))


def _features(net: Any, images_BCHW: Tensor) -> Tensor:
    return _flat(net.features(images_BCHW))


def _swin(net: Any, images_BCHW: Tensor) -> Tensor:
    return net.norm(net.features(images_BCHW)).flatten(1, 2)


def _vision_transformer(net: Any, images_BCHW: Tensor) -> Tensor:
    patches_BPD = net._process_input(images_BCHW)  # torchvision 0.29; the encoder wants a class token
    token_B1D = net.class_token.expand(len(patches_BPD), -1, -1)
    return net.encoder(torch.cat([token_B1D, patches_BPD], 1))[:, 1:]


def _flat(grid_BDHW: Tensor) -> Tensor:
    return grid_BDHW.flatten(2).transpose(1, 2)
