"""Reading checkpoints, also those of earlier versions."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from autocaption.errors import UserError
from autocaption.models.captioner import METRICS, RECIPE

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


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of autocaption: plain values and tensors only, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or not one of ours.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint not found: {path}; runs keep theirs in RUN/checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError, AttributeError):
        raise UserError(
            f"cannot read the checkpoint {path}; it is damaged, or not a torch file of plain values"
        ) from None
    if not isinstance(checkpoint, dict) or RECIPE not in checkpoint:
        raise UserError(
            f"not a checkpoint of autocaption: {path}; name a file from the checkpoints/ of one of its runs"
        )
    return _upgraded(checkpoint)


def _upgraded(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of 0.1.0 with today's names."""
    if "figures" in checkpoint:
        checkpoint[METRICS] = checkpoint.pop("figures")
    checkpoint[RECIPE]["config"] = _renamed(checkpoint[RECIPE]["config"])
    return checkpoint


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    for old, new in MOVED.items():
        if isinstance(value, str) and value.startswith(old):
            return new + value.removeprefix(old)
    return value
