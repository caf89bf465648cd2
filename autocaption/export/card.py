"""The model card of an export: README.md, as model hubs show it."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.files import write_text
from autocaption.models.captioner import METRICS, RECIPE
from autocaption.runs.exported import CONFIG

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


@contextlib.contextmanager
def new_files(folder: Path, own: Iterable[str], others: Iterable[str]) -> Iterator[Path]:
    """A place for the files of an export, from which they go to its folder once all of them are whole.

    An export that fails leaves an earlier one there as it was. One that is killed as they go leaves no
    config.json, without which nothing takes the folder for a model.

    Args:
        folder: of the export; made where it isn't there.
        own: names of the format's files, beside the card and config.json.
        others: names of files of exports in another format.

    Raises:
        UserError: the folder has files that somebody may have written, or an export in another format.
    """
    ours = (folder / CARD).exists() and _is_ours(folder / CARD)
    if not ours and (file := _first(folder, (CARD, CONFIG, *own))):
        raise UserError(f"{file} is not ours; name another folder with --output")
    if file := _first(folder, others):
        raise UserError(f"{file} is of another format's export; name another folder with --output")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=folder) as aside:
        yield Path(aside)
        (folder / CONFIG).unlink(missing_ok=True)
        for file in sorted(Path(aside).iterdir(), key=lambda file: (file.name == CONFIG, file.name != CARD)):
            os.replace(file, folder / file.name)


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _is_ours(card: Path) -> bool:
    return card.read_text(encoding="utf-8", errors="replace").startswith(HEAD)


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
