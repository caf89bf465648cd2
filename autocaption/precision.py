"""What the precision and the devices of a Trainer come to on this machine."""

from typing import Any

import torch
from pytorch_lightning.accelerators import CUDAAccelerator

from autocaption.errors import UserError

MATMUL = ("highest", "high", "medium")


def fastest_precision(accelerator: str) -> str:
    """`bf16-mixed` where the hardware multiplies bf16, else `32-true`: what `trainer.precision=auto` means.

    Processors without such instructions emulate them, which takes longer than fp32.

    Args:
        accelerator: as in `trainer.accelerator`.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator in ("cpu", "auto") and hasattr(torch.cpu, "get_capabilities"):  # torch 2.12
        able = torch.cpu.get_capabilities()
        if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
            return "bf16-mixed"
    return "32-true"


def autocast_type(precision: str, accelerator: str) -> torch.dtype | None:
    """The data type that products have under a Trainer's precision; None for that of the weights.

    Args:
        precision: as in `trainer.precision`, likewise `accelerator`.
    """
    if precision == "auto":
        precision = fastest_precision(accelerator)
    if not str(precision).endswith("-mixed"):
        return None
    return torch.bfloat16 if precision.startswith("bf16") else torch.float16


def set_matmul_precision(name: str) -> None:
    """Set how exactly float32 matrices are multiplied in this process: `trainer.float32_matmul_precision`.

    Raises:
        UserError: the name is none of torch's.
    """
    if name not in MATMUL:
        raise UserError(f"trainer.float32_matmul_precision={name}: take {', '.join(MATMUL)}, or null")
    torch.set_float32_matmul_precision(name)


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
