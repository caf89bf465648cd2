"""The model card of an export: README.md, as model hubs show it."""

from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.files import write_text
from autocaption.models.captioner import METRICS, RECIPE

SHOWN = ("val/bleu1", "val/bleu4", "val/cider", "val/rouge_l", "val/perplexity")
CARD = "README.md"
HEAD = """---
library_name: autocaption
pipeline_tag: image-to-text
tags:
- image-captioning
- pytorch
---

"""


def make_folder(folder: Path) -> None:
    """Make the folder of an export, where it isn't there.

    Raises:
        UserError: its README.md is no card of ours, so somebody may have written it.
    """
    file = folder / CARD
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(HEAD):
        raise UserError(f"{file} is not ours; name another folder with --output")
    folder.mkdir(parents=True, exist_ok=True)


def write_card(checkpoint: dict[str, Any], folder: Path, usage: str) -> None:
    """Write README.md, after all that it describes.

    Args:
        checkpoint: as `runs/checkpoint.py` reads it.
        folder: of the export.
        usage: how to caption a picture with it, in Markdown.
    """
    recipe, metrics = checkpoint[RECIPE], checkpoint.get(METRICS, {})
    config = recipe["config"]
    parameters = sum(tensor.numel() for tensor in checkpoint["state_dict"].values())
    words = len(recipe["vocabulary"]) if isinstance(recipe["vocabulary"], list) else None
    lines = [
        ("encoder", f"`{_name(config['model']['encoder'])}`"),
        ("decoder", f"`{_name(config['model']['decoder'])}`"),
        ("parameters and buffers", f"{parameters:,}"),
        ("vocabulary", f"{words:,} tokens" if words else "subwords"),
        ("trained on", f"`{_name(config['data']['source'])}`"),
        *((f"`{name}`", f"{metrics[name]:.4f}") for name in SHOWN if name in metrics),
    ]
    table = "".join(f"| {name} | {value} |\n" for name, value in lines)
    text = (
        f"{HEAD}# An image captioner\n\nIt describes a picture in a sentence, in the words of the captions "
        f"that it was trained on, and knows nothing else. Made with autocaption.\n\n"
        f"| | |\n|---|---|\n{table}\n"
        f"Metrics are of the validation split, of freely generated captions.\n\n## Usage\n\n{usage}"
    )
    write_text(folder / CARD, text)


def _name(part: dict[str, Any]) -> str:
    return str(part.get("_target_", "?")).rpartition(".")[2]
