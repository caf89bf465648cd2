"""Reading checkpoints, also those of earlier versions."""

import os
from pathlib import Path
from typing import Any

import torch

from autocaption.checks import as_path
from autocaption.data.pictures import MAX_PIXELS
from autocaption.errors import UserError
from autocaption.models.captioner import METRICS, RECIPE
from autocaption.models.weights import unwrapped
from autocaption.runs import exported
from autocaption.runs.earlier_encoders import rename_encoder

# The layout of a recipe and of the keys beside it, which every checkpoint but those of layout 1 names. Raise
# it when earlier code can't read a checkpoint of today, and let `_upgraded` translate those of before.
LAYOUT = 3
# Keys that came later, with what they mean for a checkpoint without them. A new argument of a part needs no
# entry: it gets a default in its constructor.
ADDED = {
    "data.captions_per_image": None,
    "data.features_dtype": "float16",
    "data.fit": "crop",
    "data.image_size": None,
    "data.interpolation": "bilinear",
    "data.manifest": None,
    "data.max_pixels": MAX_PIXELS,
    "data.on_broken": "stop",
    "layer_decay": 1.0,
}
# Where what a configuration names has moved since 0.1.0.
MOVED = {
    "autocaption.data.caption_rules.": "autocaption.data.tokenizer.",
    "autocaption.data.tokenizer.Tokenizer": "autocaption.data.tokenizer.WordTokenizer",
    "autocaption.data.sources.flickr8k.Flickr8k": "autocaption.data.sources.flickr8k.flickr8k",
    "autocaption.models.loss.": "autocaption.models.losses.",
    "autocaption.models.schedule.": "autocaption.models.optim.",
    "autocaption.search.sample.": "autocaption.search.sampling.",
    "autocaption.callbacks.captions.": "autocaption.callbacks.predictions.",
    "autocaption.callbacks.progress.progress": "autocaption.callbacks.progress_bar.progress_bar",
    "autocaption.loggers.wandb_logger": "autocaption.loggers.wandb.wandb_logger",
}


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of autocaption, or an export of one: plain values and tensors only, on the CPU.

    Raises:
        UserError: the file is missing, damaged, of a later version, or not one of ours.
    """
    path = as_path("checkpoint", path)
    checkpoint = exported.read(path) if exported.is_export(path) else _read(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(RECIPE), dict):
        raise UserError(
            f"not a checkpoint of autocaption: {path}; name a file from the checkpoints/ of one of its runs"
        )
    recipe = checkpoint[RECIPE]
    layout = recipe.get("layout", 1)
    if not isinstance(layout, int) or layout > LAYOUT:
        raise UserError(f"{path} was written by a newer autocaption (layout {layout}); update this one")
    needed: dict[str, tuple[dict[str, Any], type | tuple[type, ...]]] = {
        "config": (recipe, dict),
        "vocabulary": (recipe, (list, str)),  # words, or a tokenizer.json
        "state_dict": (checkpoint, dict),
    }
    for name, (holder, kind) in needed.items():
        if not isinstance(holder.get(name), kind):
            raise UserError(f"the checkpoint {path} lacks its {name}; take another one of its run")
    return _upgraded(checkpoint)


def _read(path: Path) -> Any:
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; name a checkpoint, such as best.ckpt in a run's checkpoints/, or an export"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint not found: {path}; runs keep theirs in RUN/checkpoints/") from None
    except PermissionError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    except Exception:  # torch's reader fails in a dozen ways on a file that is none of its own
        raise UserError(
            f"cannot read the checkpoint {path}; it is damaged, or not a torch file of plain values"
        ) from None


def _upgraded(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of an earlier layout as one of today."""
    if "figures" in checkpoint:
        checkpoint[METRICS] = checkpoint.pop("figures")
    checkpoint["state_dict"] = unwrapped(checkpoint["state_dict"])
    rename_encoder(checkpoint)
    config = _renamed(checkpoint[RECIPE]["config"])
    if "runs" in config:  # the folder of new runs
        config.setdefault("runs_dir", config.pop("runs"))
    if isinstance(config.get("data"), dict):
        _update_transforms(config["data"])
    for key, value in ADDED.items():
        *parents, last = key.split(".")
        node = config
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.setdefault(last, value)
    if (config.get("metrics") or {}).get("_target_") == "torchmetrics.MetricCollection":
        config["metrics"] = _caption_metrics(config)
    checkpoint[RECIPE]["config"] = config
    return checkpoint


def _update_transforms(data: dict[str, Any]) -> None:
    """The crop share by its name of today, and augmentation as a list, where it was yes or no."""
    if "crop" in data:
        data["crop_share"] = data.pop("crop")
    if isinstance(data.get("augment"), bool):
        transforms = "torchvision.transforms.v2."
        crop = {"_target_": f"{transforms}RandomCrop", "size": "${data.image_size}"}
        flip = {"_target_": f"{transforms}RandomHorizontalFlip"}
        data["augment"] = [crop, flip] if data["augment"] else []


def _caption_metrics(config: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a configuration with a MetricCollection, which scored the words of the model's rule."""
    members = config["metrics"]["metrics"]
    bleu = [one for one in (members.values() if isinstance(members, dict) else members) if one is not None]
    words = {"_target_": "hydra.utils.get_method", "path": "autocaption.data.tokenizer.words"}
    rule = config["tokenizer"].get("rule", words)
    return {
        "_target_": "autocaption.metrics.caption_metrics.CaptionMetrics",
        "tokenizer": {"_target_": "autocaption.metrics.tokenizers.WordsTokenizer", "rule": rule},
        "image_metrics": {"bleu": bleu[0] if bleu else None},
        "split_metrics": {},
    }


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    if not isinstance(value, str):
        return value
    for old, new in MOVED.items():
        if value.startswith(old):
            return new + value.removeprefix(old)
    return value.replace("${runs}", "${runs_dir}")
