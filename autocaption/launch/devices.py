"""How processes on one machine share its GPUs and cores."""

import os
import subprocess
from collections.abc import Mapping


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process may use, without starting CUDA."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in given.split(",") if gpu]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(i) for i, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


def share(slot: int, slots: int, devices: object, gpus: list[str], cores: int) -> Mapping[str, str]:
    """The environment variables that give a process its share of the machine.

    Args:
        slot: which of the processes that run at a time, from 0.
        slots: how many run at a time.
        devices: `trainer.devices`, a number or `auto`.
        gpus: ids of the GPUs; where there are too few, processes share them in turn.
        cores: CPU cores of this machine.
    """
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // slots))}
    if not gpus:
        return threads
    wanted = devices if isinstance(devices, int) and devices > 0 else max(1, len(gpus) // slots)
    mine = [gpus[(slot * wanted + i) % len(gpus)] for i in range(min(wanted, len(gpus)))]
    return {**threads, "CUDA_VISIBLE_DEVICES": ",".join(mine)}
