"""A trial's folder: its lock, the study it belongs to, and how far its training got."""

import json
from pathlib import Path
from typing import TextIO

from autocaption.files import try_lock, write_json
from autocaption.runs.folder import newest_checkpoint


def lock_folder(folder: Path) -> TextIO | None:
    """The lock on a trial's folder, or None if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "a")  # noqa: SIM115 (open until the claim ends)
    if try_lock(file):
        return file
    file.close()
    return None


def mark_folder(folder: Path, study_uid: str) -> None:
    """Mark a trial's folder as this study's; files of another study are moved to a folder beside it."""
    file = folder / "trial.json"
    if file.exists() and (found := json.loads(file.read_text(encoding="utf-8"))["study"]) != study_uid:
        moved = folder.with_name(f"{folder.name}_of_{found}")
        moved.mkdir(exist_ok=True)
        # The mark comes last, so that the next attempt goes on where this one was killed.
        for entry in sorted(folder.iterdir(), key=lambda entry: entry == file):
            if entry.name != ".lock":  # this process holds it
                entry.rename(moved / entry.name)
    write_json(file, {"study": study_uid})


def checkpoint_age(folder: Path) -> int:
    """When the checkpoint was saved from which a trial resumes, in nanoseconds; 0 for none."""
    checkpoint = newest_checkpoint(folder)
    return checkpoint.stat().st_mtime_ns if checkpoint else 0
