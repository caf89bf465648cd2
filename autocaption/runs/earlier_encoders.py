"""Encoders of earlier checkpoints, which were lists of stages, under today's names."""

from typing import Any

from torch import Tensor

TIMM = "autocaption.models.encoders.timm_models.timm_encoder"
TORCHVISION = "autocaption.models.encoders.torchvision_models.torchvision_encoder"
MOVED = {
    "autocaption.models.encoders.efficientnet.efficientnet": TIMM,
    "autocaption.models.encoders.resnet.resnet": TORCHVISION,
}
RESNET = {"stages.0.0": "conv1", "stages.0.1": "bn1", **{f"stages.{i}": f"layer{i}" for i in range(1, 5)}}


def rename_encoder(checkpoint: dict[str, Any]) -> None:
    """Give a checkpoint's encoder today's names, in place; nothing to do for one of today."""
    model = checkpoint.get("recipe", {}).get("config", {}).get("model") or {}
    encoder: dict[str, Any] = model.get("encoder") or {}
    target = MOVED.get(encoder.get("_target_", ""))
    if target is None:
        return
    model["encoder"] = {**encoder, "_target_": target}
    names = RESNET if target == TORCHVISION else _efficientnet(checkpoint["state_dict"])
    for key in ("state_dict", "ema_weights"):
        if key in checkpoint:
            checkpoint[key] = {_renamed(name, names): tensor for name, tensor in checkpoint[key].items()}


def _efficientnet(state: dict[str, Tensor]) -> dict[str, str]:
    count = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.stages."))
    blocks = [f"blocks.{i}" for i in range(count - 4)]
    names = ["conv_stem", "bn1", *blocks, "conv_head", "bn2"]
    return {f"stages.{i}": name for i, name in enumerate(names)}


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if name.startswith(f"encoder.{old}."):
            return f"encoder.net.{new}." + name.removeprefix(f"encoder.{old}.")
    return name
