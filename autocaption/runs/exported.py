"""A checkpoint as a folder to hand on: model.safetensors, config.json and a model card."""

import json
import math
import re
from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.files import write_json, write_whole
from autocaption.models.captioner import METRICS, RECIPE

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_WITHIN = re.compile(r"\$\{([\w.]+)\}/")


def is_export(path: Path) -> bool:
    """Whether a path is such a folder."""
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def write(checkpoint: dict[str, Any], folder: Path) -> None:
    """Write what a model is made of; optimizer and training state stay behind, and so do paths.

    Args:
        checkpoint: as `runs/checkpoint.py` reads it.
        folder: where to.

    Raises:
        UserError: the package safetensors is missing, or the folder can't be written to.
    """
    library = _library()
    recipe = checkpoint[RECIPE]
    config = {
        "model_type": "autocaption",
        RECIPE: {**recipe, "config": _without_paths(recipe["config"], recipe["config"])},
        METRICS: {name: value for name, value in checkpoint.get(METRICS, {}).items() if math.isfinite(value)},
    }
    weights = {name: tensor.clone().contiguous() for name, tensor in checkpoint["state_dict"].items()}
    write_whole(folder / WEIGHTS, lambda aside: library.save_file(weights, aside, {"format": "pt"}))
    write_json(folder / CONFIG, config)


def read(folder: Path) -> dict[str, Any]:
    """The checkpoint that such a folder was written from, without what is only for training.

    Raises:
        UserError: a file of it is damaged, or the package safetensors is missing.
    """
    library = _library()
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = library.load_file(folder / WEIGHTS)
    except PermissionError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
    except Exception:  # safetensors raises an exception of its own for whatever is no such file
        raise UserError(f"cannot read the export {folder}; one of its files is damaged") from None
    known = config if isinstance(config, dict) else {}
    return {RECIPE: known.get(RECIPE), METRICS: known.get(METRICS) or {}, "state_dict": state}


def _without_paths(value: Any, config: dict[str, Any]) -> Any:
    """A configuration without the paths of this machine, which are nobody else's business."""
    if isinstance(value, dict):
        return {key: _without_paths(part, config) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_paths(part, config) for part in value]
    return None if _is_path(value, config) else value


def _is_path(value: Any, config: dict[str, Any]) -> bool:
    """Whether it is a path, or starts with one: without that, `${KEY}/name` would be "None/name"."""
    if not isinstance(value, str):
        return False
    if (within := _WITHIN.match(value)) is None:
        return value.startswith(("/", "~", "file:"))
    node: Any = config
    for name in within[1].split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return _is_path(node, config)


def _library() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise UserError(
            "safetensors needs the package of that name: pip install 'autocaption[export]'"
        ) from None
    return safetensors.torch
