"""The GPUs and CPU threads that each of several concurrent processes gets."""

import os
import subprocess
from collections.abc import Mapping


def visible_gpus() -> list[str]:
    """The ids of the GPUs that this process may use, found without initializing CUDA."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]  # others are MIG slices
    return [str(i) for i in range(len(gpus))]


def share(slot: int, slots: int, devices: object, gpus: list[str], cores: int) -> Mapping[str, str]:
    """The environment variables that restrict a process to its share of the machine.

    Args:
        slot: the process's index among those that run at a time.
        slots: how many run at a time.
        devices: `trainer.devices`, a number or `auto`.
        gpus: the machine's GPUs; if there are too few, several processes use the same one.
        cores: the machine's number of CPU cores.
    """
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // slots))}
    if not gpus:
        return threads
    wanted = devices if isinstance(devices, int) and devices > 0 else max(1, len(gpus) // slots)
    assigned = [gpus[(slot * wanted + i) % len(gpus)] for i in range(min(wanted, len(gpus)))]
    return {**threads, "CUDA_VISIBLE_DEVICES": ",".join(assigned)}
