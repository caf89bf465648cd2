"""The GPUs and CPU threads that each of several concurrent processes gets."""

import contextlib
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from autocaption.files import try_lock
from autocaption.machine import cores

GPU = ("auto", "gpu", "cuda")  # accelerators
# One GPU in the output of `nvidia-smi -L`; lines of MIG slices are indented.
_LISTED = re.compile(r"^GPU (\d+): .*?(?:\(UUID: (\S+)\))?$", re.MULTILINE)


def visible_gpus() -> dict[str, str]:
    """The GPUs that this process may use, found without initializing CUDA.

    Returns:
        by the id that CUDA_VISIBLE_DEVICES takes: a name that means the same GPU in every process of this
        machine, since two cluster jobs may each know theirs as 0.
    """
    listed = {index: uuid or index for index, uuid in _LISTED.findall(_nvidia_smi())}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed
    ids = itertools.takewhile(lambda gpu: gpu != "-1", visible.split(","))  # CUDA reads no further, either
    return {gpu: listed.get(gpu, gpu) for gpu in ids if gpu}


def _nvidia_smi() -> str:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def threads(slots: int) -> Mapping[str, str]:
    """The environment variable that gives each of `slots` processes its share of the cores."""
    if "OMP_NUM_THREADS" in os.environ:  # the user's choice
        return {}
    return {"OMP_NUM_THREADS": str(max(1, cores() // slots))}


@contextlib.contextmanager
def reserved(
    gpus: Mapping[str, str], accelerator: str, devices: object, slots: int = 1
) -> Iterator[tuple[Mapping[str, str], list[int]]]:
    """Reserve GPUs for a process that is started within this context.

    Free ones come first; if there are too few, the process shares those that the fewest others use. A
    reservation is a lock on a file of this machine, so processes of other commands count, too.

    Args:
        gpus: the GPUs to choose from, as from `visible_gpus`.
        accelerator: `trainer.accelerator`; none are reserved for `cpu` and the like.
        devices: `trainer.devices`, a number or `auto`.
        slots: how many processes run at a time; with `auto` each gets its part.

    Yields:
        the environment variables that restrict the process to its GPUs, and the file descriptors that it
        must inherit: the reservation lasts as long as it has them open.
    """
    if accelerator not in GPU:
        gpus = {}
    wanted = devices if isinstance(devices, int) and devices > 0 else max(1, len(gpus) // slots)
    taken: dict[str, TextIO] = {}
    with contextlib.ExitStack() as locks:
        for level in itertools.count():  # how many processes use the GPU before this one
            for gpu, name in gpus.items():
                if len(taken) < wanted and gpu not in taken and (lock := _lock(name, level)):
                    taken[gpu] = locks.enter_context(lock)
            if len(taken) >= min(wanted, len(gpus)):
                break
        ids = ",".join(gpu for gpu in gpus if gpu in taken)
        environment = {"CUDA_VISIBLE_DEVICES": ids} if gpus else {}
        yield environment, [lock.fileno() for lock in taken.values()]


@contextlib.contextmanager
def announced(accelerator: str | None, devices: object) -> Iterator[None]:
    """Mark the GPUs that this process's Trainer takes as used, for those who reserve some beside it.

    They are the user's choice, and so are not changed: others may use them, too.

    Args:
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`: a number of GPUs, from the first, a list of their indices, or `auto`.
    """
    names = list(visible_gpus().values()) if accelerator in GPU else []
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        names = [name for index, name in enumerate(names) if index in devices]
    elif isinstance(devices, int) and devices > 0:
        names = names[:devices]
    with contextlib.ExitStack() as locks:
        for name in names:
            tried = (_lock(name, level) for level in itertools.count())
            locks.enter_context(next(lock for lock in tried if lock is not None))
        yield


def _lock(name: str, level: int) -> TextIO | None:
    folder = Path(tempfile.gettempdir()) / f"autocaption_gpus_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = open(folder / f"{quote(name, safe='')}.{level}", "a")  # noqa: SIM115 (held by the process)
    if try_lock(file):
        return file
    file.close()
    return None
