"""The folder of a trial."""

import json
import zipfile
from pathlib import Path

from autocaption.files import write_json
from autocaption.run_folder import LAST


def stamp(folder: Path, study: str) -> None:
    """Mark a trial's folder as a study's; what an earlier study left in it is moved aside.

    Args:
        folder: of the trial; it exists.
        study: its unique id, not its name.
    """
    file = folder / "trial.json"
    if file.exists() and (found := json.loads(file.read_text(encoding="utf-8"))["study"]) != study:
        aside = folder.with_name(f"{folder.name}_of_{found}")
        aside.mkdir(exist_ok=True)
        for entry in folder.iterdir():
            if entry.name != ".lock":  # held by us
                entry.rename(aside / entry.name)
    write_json(file, {"study": study})


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from; None where there is none or a crash left it damaged."""
    file = (folder / LAST).absolute()
    return file if zipfile.is_zipfile(file) else None
