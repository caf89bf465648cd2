"""What the precision and the devices of a Trainer come to on this machine."""

from typing import Any

import torch
from pytorch_lightning.accelerators import CUDAAccelerator

from autocaption.checks import choice
from autocaption.errors import UserError

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")  # that a trained model may have
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


def device_of(name: str | torch.device) -> torch.device:
    """A device of this machine; `auto` is its first GPU, or the CPU where it has none.

    Raises:
        UserError: it has no such device.
    """
    if name == "auto":
        return devices_of("auto", 1)[0]
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: torch without CUDA
        raise UserError(
            f"device={name} is not here ({str(error).splitlines()[0]}); take auto or cpu"
        ) from None
    return device


def autocast_of(precision: str | None, device: torch.device) -> torch.dtype | None:
    """The data type that a Trainer's precision gives products on a device; None for that of the weights.

    Raises:
        UserError: the precision is none of PRECISIONS.
    """
    if precision is None:
        return None
    return autocast_type(choice("precision", precision, PRECISIONS), device.type)
