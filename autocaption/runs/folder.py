"""Where runs lie, and the files of their checkpoints.

Needs no torch, since Hydra asks for the folder before anything else is loaded.
"""

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from autocaption import slurm
from autocaption.checks import as_path
from autocaption.errors import UserError
from autocaption.runs.record import FILE, newest_to_resume


@functools.cache
def new_run_name() -> str:
    """A name for this process's new run: the time, and random digits.

    In a Slurm job it follows from the job's id and the command line, so that a requeued job finds its run.
    """
    if job := slurm.job_id():
        command = "\0".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        return f"slurm_{job}_{hashlib.sha256(command.encode()).hexdigest()[:6]}"
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"


@contextlib.contextmanager
def removed_where_unused(folder: Path) -> Iterator[None]:
    """Remove this process's new folder where nothing began in it, as after a mistake.

    It then holds only what Hydra puts there: an empty log, or a multirun's overrides. A folder whose name
    another process may have, too, such as that of a Slurm job, is left.
    """
    try:
        yield
    finally:
        if folder.name == new_run_name() and not slurm.job_id():
            with contextlib.suppress(OSError):
                if all(_is_hydras(entry) for entry in folder.iterdir()):
                    shutil.rmtree(folder)


def _is_hydras(entry: Path) -> bool:
    return entry.name == "multirun.yaml" or (entry.suffix == ".log" and entry.stat().st_size == 0)


def run_folder(runs_dir: str, resume: str | None, run_dir: str | None = None) -> str:
    """The folder of the run: that of the run to resume, or `run_dir`, or a new one under `runs_dir`."""
    if resume is not None:
        return str(folder_to_resume(runs_dir, str(resume)))
    if run_dir is not None:
        return str(as_path("run_dir", run_dir))
    return str(as_path("runs_dir", runs_dir) / new_run_name())


def folder_to_resume(runs_dir: str, resume: str) -> Path:
    """The run folder that `resume=` means: itself, that of a checkpoint, or for `last` the newest left.

    Raises:
        UserError: there is none.
    """
    if resume == "last":
        root = as_path("runs_dir", runs_dir).absolute()
        newest = newest_to_resume(root)
        if newest is None:
            raise UserError(f"resume=last: no run under {root} is left to resume; name one: resume=RUN")
        return newest
    path = as_path("resume", resume).absolute()
    if path.is_dir():
        if is_run_folder(path):
            return path
        raise UserError(f"not a run folder: resume={path}; it holds no {FILE}")
    if not path.is_file():
        raise UserError(f"checkpoint not found: resume={path}; runs keep theirs in RUN/checkpoints/")
    folder = path.parents[1]
    if path.parent.name != "checkpoints" or not is_run_folder(folder):
        raise UserError(
            f"resume={path} lies in no run folder; start a new run from its weights with init_from={path}"
        )
    return folder


def checkpoint_to_resume(runs_dir: str, resume: str) -> tuple[Path, list[Path]]:
    """The checkpoint that `resume=` means, and the damaged newer ones that were passed over.

    Raises:
        UserError: there is none, or no undamaged one.
    """
    folder = folder_to_resume(runs_dir, resume)
    named = as_path("resume", resume).absolute()
    if named.is_file():
        if not is_whole(named):
            raise UserError(f"the checkpoint resume={named} is damaged; take the newest with resume={folder}")
        return named, []
    checkpoint, damaged = newest_whole(folder / "checkpoints")
    if checkpoint is None:
        what = f"only damaged checkpoints ({damaged[0].name})" if damaged else "no checkpoint yet"
        raise UserError(f"resume={folder} holds {what}; start the run anew, or name another")
    return checkpoint, damaged


def is_run_folder(folder: Path) -> bool:
    """Whether a run was started in it (by 0.1.0, too, which wrote no run.json)."""
    return any((folder / name).is_file() for name in (FILE, "provenance.json"))


def rotate(path: Path, keep: int) -> None:
    """Keep the checkpoint at `path` as NAME-1, the one before as NAME-2, and so on, `keep` in all.

    The file stays in its place, too, until the next one takes its name.
    """
    versions = [path, *(path.with_stem(f"{path.stem}-{n}") for n in range(1, keep))]
    for older, newer in reversed(list(pairwise(versions))):
        if not older.exists():
            continue
        if older is not path:
            os.replace(older, newer)
            continue
        with contextlib.suppress(OSError):
            newer.unlink(missing_ok=True)
            os.link(older, newer)  # a file system without links keeps one version less


def is_whole(path: Path) -> bool:
    """Whether a checkpoint can be read and the checksum of each of its tensors is right.

    torch writes a zip archive, which holds a CRC-32 of each record; torch itself never checks them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile):
        return False


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The checkpoint from which a run would resume; None where it has no undamaged one."""
    return newest_whole(run_folder / "checkpoints")[0]


def newest_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """The newest undamaged `last` of a `checkpoints/` folder, and the damaged ones that are newer."""
    damaged: list[Path] = []
    for path in [folder / "last.ckpt", *sorted(folder.glob("last-*.ckpt"), key=_age)]:
        if path.exists():
            if is_whole(path):
                return path, damaged
            damaged.append(path)
    return None, damaged


def _age(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 1_000
