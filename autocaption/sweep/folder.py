"""The folder of a trial."""

import json
import zipfile
from pathlib import Path

from autocaption.files import write_json
from autocaption.run_folder import LAST


def prepare(folder: Path, study: str, overrides: list[str]) -> None:
    """Stamp a trial's folder with its study; one that an earlier study left there is moved aside."""
    stamp = folder / "trial.json"
    if stamp.exists() and (found := json.loads(stamp.read_text(encoding="utf-8"))["study"]) != study:
        aside = folder.with_name(f"{folder.name}_of_{found}")
        aside.mkdir(exist_ok=True)
        for entry in folder.iterdir():
            if entry.name != ".lock":  # held by us
                entry.rename(aside / entry.name)
    write_json(stamp, {"study": study, "overrides": overrides})


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from; None where there is none or a crash left it damaged."""
    file = (folder / LAST).absolute()
    return file if zipfile.is_zipfile(file) else None
