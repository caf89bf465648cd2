"""How checkpoints reach the disk, and come back: whole, verified, and free of absolute paths."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from autocaption.errors import UserError, first_line
from autocaption.files import write_whole
from autocaption.models.weights import unwrapped
from autocaption.runs.earlier_encoders import rename_encoder
from autocaption.runs.folder import is_whole

_FIELD = re.compile(r"\{[^{}]*\}")  # of a file name: {epoch}, {val/bleu4:.3f}


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint beside its final name, syncs it to disk, and renames it.

    Lightning's own writer goes through $TMPDIR and a move, which is a copy where that is another file
    system: a killed process or a full disk leaves half a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            UserError: the disk is full, or the folder can't be written to.
        """
        path = Path(path)

        def write(aside: Path) -> None:
            with open(aside, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, write)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            cause = error if isinstance(error, OSError) else error.__context__
            reason = getattr(cause, "strerror", None) or first_line(error)
            raise UserError(
                f"cannot write the checkpoint {path}: {reason}; make room there, then resume the run"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: Any = True
    ) -> dict[str, Any]:
        """Read a checkpoint; paths that callbacks keep in it are moved to the folder that it lies in now.

        Raises:
            UserError: the file is damaged.
        """
        path = Path(path)
        if not is_whole(path):
            raise UserError(f"the checkpoint {path} is damaged; name another of the same folder")
        checkpoint = super().load_checkpoint(path, map_location, weights_only)
        checkpoint["state_dict"] = unwrapped(checkpoint["state_dict"])
        rename_encoder(checkpoint)
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and "dirpath" in state:
                _move(state, state["dirpath"], str(path.parent.absolute()))
        return checkpoint


def keep_within(callback: ModelCheckpoint, folder: Path) -> None:
    """Make sure that a ModelCheckpoint saves into the `checkpoints/` of its run, wherever its names lead.

    Raises:
        UserError: its folder is another one, or its file name leads out of it or to last.ckpt.
    """
    folder = Path(os.path.realpath(folder))
    if callback.dirpath is None:  # Lightning would choose a logger's folder
        callback.dirpath = str(folder)
    if Path(callback.dirpath) != folder:
        raise UserError(f"dirpath={callback.dirpath} of a checkpoint: leave it out; they lie in {folder}")
    name = callback.filename
    if name is None:
        return
    if not isinstance(name, str) or "/" in _FIELD.sub("", name) or name == "last" or name.startswith("last-"):
        raise UserError(f"filename={name} of a checkpoint: give a plain name other than last")
    if callback.auto_insert_metric_name and any("/" in field for field in _FIELD.findall(name)):
        raise UserError(
            f"filename={name} of a checkpoint: set auto_insert_metric_name=false beside it, since the / in a "
            "metric's name would become a folder"
        )


def save_after_validation(callback: ModelCheckpoint) -> None:
    """Let a ModelCheckpoint that monitors a validation save right after it, where nothing else is configured.

    Lightning (2.6) has it save at the end of the epoch, after last.ckpt, which then doesn't know of it; and a
    run that is resumed there has no metric for it.
    """
    if str(callback.monitor).startswith("val/") and callback._save_on_train_epoch_end is None:
        callback._save_on_train_epoch_end = False


def _move(state: dict[str, Any], before: str, now: str) -> None:
    """Move the paths of a ModelCheckpoint's state that lie in one folder to another."""
    if before == now:
        return

    def moved(path: Any) -> Any:
        inside = isinstance(path, str) and (path + os.sep).startswith(before + os.sep)
        return now + path.removeprefix(before) if inside else path

    for key, value in state.items():
        state[key] = {moved(k): v for k, v in value.items()} if isinstance(value, dict) else moved(value)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
