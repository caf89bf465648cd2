"""A trial as a configuration that `train.py experiment=` takes."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from autocaption.files import write_whole


def experiment(overrides: Sequence[str], groups: Collection[str], comment: str) -> str:
    """Overrides of a command line as an experiment's yaml.

    Args:
        overrides: in their order.
        groups: keys that choose a file of conf/.
        comment: its first lines.
    """
    defaults: list[Any] = []
    values: Any = OmegaConf.create({})
    missing = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element().lstrip("+")
        if override.is_delete():
            missing.append(str(override.input_line))
        elif key == "experiment":
            defaults.insert(0, override.value())
        elif key in groups:
            defaults.append({f"override /{key}": override.value()})
        else:
            OmegaConf.update(values, key, override.value(), force_add=True)
    lines = ["# @package _global_", *(f"# {line}" for line in comment.splitlines())]
    if missing:
        lines.append(f"# To be given on the command line: {' '.join(missing)}")
    if defaults:
        lines.append(OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]})).rstrip())
    if values:
        lines.append(OmegaConf.to_yaml(values).rstrip())
    return "\n".join(lines) + "\n"


def write_experiment(file: Path, text: str) -> None:
    """Write it, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda aside: aside.write_text(text, encoding="utf-8"))
