"""Every network of timm that has features, by name.

Legend: B images, P places, D width; C channels, H height, W width.
"""

import functools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import timm
import torch
from torch import Tensor, nn

from autocaption.checks import choice
from autocaption.data.transforms import Fit, Interpolation
from autocaption.errors import UserError
from autocaption.models.encoders.backbone import BackboneEncoder, Pooling, Trainable, side
from autocaption.models.encoders.pretrained import pretrained as with_weights
from autocaption.models.encoders.pretrained import unknown

PrefixTokens = Literal["none", "class", "all"]
FITS: dict[str, Fit] = {"center": "crop", "squash": "squash", "border": "pad"}  # by timm's crop_mode


@dataclass(frozen=True)
class TimmMemory:
    """What of a network's features is the memory.

    Args:
        pooling: see `timm_encoder`.
        prefix: so many tokens before the places are a part of the grid.
    """

    pooling: Pooling
    prefix: int

    def __call__(self, net: Any, images_BCHW: Tensor) -> Tensor:
        """Normalised images to memory_BPD."""
        features = net.forward_features(images_BCHW)
        if not torch.is_tensor(features):
            raise ValueError("it gives several feature maps at once")
        if self.pooling == "head":
            return net.forward_head(features, pre_logits=True).unsqueeze(1)
        if features.ndim == 3:
            places_BPD = features[:, getattr(net, "num_prefix_tokens", 0) :]
        elif getattr(net, "output_fmt", "NCHW") == "NHWC":
            places_BPD = features.flatten(1, 2)
        elif self.pooling == "mean":  # of the map itself, so that its gradient has the map's layout
            return features.mean((2, 3)).unsqueeze(1)
        else:
            places_BPD = features.flatten(2).transpose(1, 2)
        if self.pooling == "mean":
            return places_BPD.mean(1, keepdim=True)
        return torch.cat([features[:, : self.prefix], places_BPD], 1) if self.prefix else places_BPD


def timm_encoder(
    name: str,
    image_size: int | None,
    pretrained: bool,
    weights: str | None,
    pooling: Pooling,
    trainable: Trainable,
    prefix_tokens: PrefixTokens = "none",
    freeze_norm: bool = False,
    gradient_checkpointing: bool = False,
    fit: Fit | None = None,
    crop_share: float | None = None,
    interpolation: Interpolation | None = None,
) -> BackboneEncoder:
    """A convolutional network or vision transformer of timm (Wightman 2019).

    Args:
        name: as timm names it, with or without the tag of its weights: resnet18,
            vit_base_patch16_clip_224.openai.
        image_size: side of the pictures in pixels; None for what the weights were trained with.
        pretrained: whether to load published weights; else weights are random.
        weights: a local state dict (.pth or .safetensors), in timm's format or one that timm converts,
            instead of the download.
        pooling: the `grid` of places, their `mean`, or one vector as the network's own `head` pools them
            (class token, attention, norms), without its classifier.
        trainable: see `BackboneEncoder`, as for freeze_norm.
        prefix_tokens: what stands before the places of a vision transformer's grid: `none`, the `class`
            token, or `all` (class and register tokens).
        freeze_norm: whether BatchNorms stay frozen.
        gradient_checkpointing: whether to compute a stage again in the backward pass instead of keeping it;
            BatchNorms that are trained then count a batch twice.
        fit: how pictures are made square; None as the weights want it, likewise for the next two.
        crop_share: the share of the square's side that is kept.
        interpolation: of the resizing.

    Raises:
        UserError: timm has no such model, the model can't do what is asked for, or the weights can't be
            loaded.
    """
    choice("model.encoder.pooling", pooling, get_args(Pooling))
    config: Any = _published(name)
    if pretrained and weights is None and not config.has_weights:
        raise UserError(
            f"timm has no weights of {name}; give some with model.encoder.weights=PATH, or train it from "
            "nothing with model.encoder.pretrained=false model.encoder.trainable=all"
        )
    size = side(image_size, config.input_size[1])
    # Only networks with a fixed size take one, since their position embeddings depend on it.
    resized = config.fixed_input_size and config.input_size[1:] != (size, size)
    options: dict[str, Any] = {"img_size": size} if resized else {}

    def make(download: bool) -> nn.Module:
        return timm.create_model(name, pretrained=download, num_classes=0, **options)

    net: Any = with_weights(make, functools.partial(_adapted, name), name, pretrained, weights)
    data = timm.data.resolve_model_data_config(net)
    prefix = _prefix_count(net, name, pooling, prefix_tokens)
    encoder = BackboneEncoder(
        net,
        name,
        TimmMemory(pooling, prefix),
        pooling,
        getattr(net, "group_matcher", None),
        trainable,
        freeze_norm,
        image_size=size,
        mean=data["mean"],
        std=data["std"],
        fit=fit or FITS[data["crop_mode"]],
        # timm resizes to a whole number of pixels, rounded down.
        crop_share=size / math.floor(size / data["crop_pct"]) if crop_share is None else crop_share,
        interpolation=interpolation or data["interpolation"],
    )
    if prefix:
        encoder.grid_side = None  # even where places and prefix together could be a square
    if gradient_checkpointing:
        _checkpoint(net, name)
    return encoder


def _published(name: str) -> Any:
    """timm's configuration of a model's weights."""
    architecture = str(name).partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown("timm", name, [*timm.list_models(), *timm.list_pretrained()])
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        raise unknown("timm", name, timm.list_pretrained(f"{architecture}.*")) from None


def _adapted(name: str, state: dict[str, Any], net: Any) -> Mapping[str, Any]:
    """A state dict as timm loads it, without the classifier."""
    # By convention timm's modules convert other formats, and resize position embeddings, by a function of
    # this name (1.0.31).
    module = sys.modules[timm.model_entrypoint(name).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    state = convert(state, net) if convert else state
    classifiers = net.pretrained_cfg["classifier"] or ()
    names = (classifiers,) if isinstance(classifiers, str) else classifiers
    dropped = {f"{one}.{kind}" for one in names for kind in ("weight", "bias")}
    return {key: value for key, value in state.items() if key not in dropped}


def _checkpoint(net: Any, name: str) -> None:
    try:
        net.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):
        raise UserError(
            f"model.encoder.gradient_checkpointing=true: timm can't do it for {name}; set it to false"
        ) from None


def _prefix_count(net: Any, name: str, pooling: Pooling, wanted: PrefixTokens) -> int:
    """How many tokens before the places are a part of the memory."""
    choice("model.encoder.prefix_tokens", wanted, get_args(PrefixTokens))
    if wanted == "none":
        return 0
    if pooling != "grid":
        raise UserError(f"model.encoder.prefix_tokens={wanted} needs model.encoder.pooling=grid")
    count = getattr(net, "num_prefix_tokens", 0)
    has_class = getattr(net, "cls_token", None) is not None or getattr(net, "has_class_token", False)
    if not count or (wanted == "class" and not has_class):
        which = "class token" if wanted == "class" else "class or register tokens"
        raise UserError(f"model.encoder.prefix_tokens={wanted}: {name} has no {which}; take none")
    return 1 if wanted == "class" else count
