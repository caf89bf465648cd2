from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from autocaption.errors import UserError
from autocaption.models.captioner import RECIPE


def load(path: str | Path) -> dict[str, Any]:
    """Read one of our checkpoints: plain values and tensors only, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or something else's.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint not found: {path}; runs keep theirs in RUN/checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError, AttributeError):
        raise UserError(
            f"not a checkpoint that can be read: {path}; it is damaged or no torch file of plain values"
        ) from None
    if not isinstance(checkpoint, dict) or RECIPE not in checkpoint:
        raise UserError(
            f"not a checkpoint of autocaption: {path}; name a file from the checkpoints/ of one of its runs"
        )
    return checkpoint
