"""What the precision and the devices of a Trainer come to on this machine."""

import logging
import time
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning.accelerators import CUDAAccelerator

from autocaption.errors import UserError, first_line

log = logging.getLogger(__name__)

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # that a trained model may have
MATMUL = ("highest", "high", "medium")
ROUNDS = 4  # of each precision, in turn; the fastest counts
GAIN = 1.25  # the least that bf16 has to be faster, since not everything in a step is a product
Shape = tuple[int, int, int]  # (m, k, n) of a product (m, k) @ (k, n)


def fastest_precision(accelerator: str, shapes: Collection[Shape]) -> str:
    """`bf16-mixed` or `32-true`, whichever multiplies faster here: what `trainer.precision=auto` means.

    A GPU that multiplies bf16 does so faster. Of processors with such instructions some take twice as long as
    with fp32, so these products are timed, forward and backward under autocast, for some milliseconds.

    Args:
        accelerator: as in `trainer.accelerator`.
        shapes: the products of a training step.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator not in ("cpu", "auto") or not _multiplies_bf16():
        return "32-true"
    rounds = [(seconds(shapes, bf16=False), seconds(shapes, bf16=True)) for _ in range(ROUNDS)]
    fp32, bf16 = map(min, zip(*rounds, strict=True))
    chosen = "bf16-mixed" if fp32 >= GAIN * bf16 else "32-true"
    log.info(
        "trainer.precision=auto: %s; a step's products take %.1f ms in bf16 and %.1f ms in fp32 (%.2f times)",
        *(chosen, 1e3 * bf16, 1e3 * fp32, bf16 / fp32),
    )
    return chosen


def _multiplies_bf16() -> bool:
    """Whether the processor has instructions for it; emulation takes longer than fp32."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.12
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def seconds(shapes: Collection[Shape], bf16: bool) -> float:
    """Seconds of these products and their gradients on the CPU."""
    operands = [
        (torch.ones(m, k, requires_grad=True), torch.ones(n, k, requires_grad=True)) for m, k, n in shapes
    ]
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for pair in operands:
            F.linear(*pair).sum().backward()
    return time.perf_counter() - start


def autocast_type(precision: str) -> torch.dtype | None:
    """The data type that products have under a Trainer's precision; None for that of the weights.

    Args:
        precision: as in `trainer.precision`, but not `auto`.
    """
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
        if device.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: torch without CUDA
        raise UserError(f"device={name} is not here ({first_line(error)}); take auto or cpu") from None
    return device
