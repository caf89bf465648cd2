"""Where runs lie. Needs no torch, since Hydra asks for the folder before anything else is loaded."""

import functools
import secrets
import time
import zipfile
from pathlib import Path

from autocaption.errors import UserError

LAST = "checkpoints/last.ckpt"


@functools.cache
def new_run_name() -> str:
    """A name for this process's new run: the time, and random digits."""
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"


def run_folder(runs: str, resume: str | None) -> str:
    """The folder of the run: a new one under `runs`, or that of the checkpoint to resume from."""
    return (
        str(Path(runs) / new_run_name())
        if resume is None
        else str(checkpoint_to_resume(runs, resume).parents[1])
    )


def checkpoint_to_resume(runs: str, resume: str) -> Path:
    """The checkpoint that `resume=` means: a path, a run folder, or `last` for the newest run's.

    Raises:
        UserError: there is none.
    """
    if resume == "last":
        found = sorted(Path(runs).glob(f"**/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"resume=last: no checkpoint under {Path(runs).resolve()}; name one: resume=PATH")
        return found[-1].absolute()
    path = Path(resume).expanduser().absolute()
    path = path / LAST if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"checkpoint not found: resume={path}; runs keep theirs in RUN/checkpoints/")
    return path


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume a run folder from; None where there is none or a crash left it damaged."""
    file = (folder / LAST).absolute()
    return file if zipfile.is_zipfile(file) else None
