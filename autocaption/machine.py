"""What this machine gives to this process."""

import os
from typing import Any

import torch
from pytorch_lightning.accelerators import CUDAAccelerator


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices_of(accelerator: str, devices: Any) -> list[torch.device]:
    """The devices of this machine that a Trainer uses; one CPU, however many processes share it.

    Args:
        accelerator: as in `trainer.accelerator`, likewise `devices`.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        chosen = CUDAAccelerator.auto_device_count() if devices == "auto" else devices
        return CUDAAccelerator.get_parallel_devices(CUDAAccelerator.parse_devices(chosen) or [0])
    if accelerator in ("gpu", "mps", "auto") and torch.backends.mps.is_available():
        return [torch.device("mps")]
    return [torch.device("cpu")]
