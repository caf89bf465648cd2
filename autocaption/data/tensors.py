"""Tensors within dataclasses, and on their way to the host."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def mapped(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """A copy of a dataclass with every tensor in it, and in dataclasses within it, changed."""
    changed: Any = value
    if isinstance(value, Tensor):
        changed = change(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {one.name: mapped(getattr(value, one.name), change) for one in fields(value)}
        changed = replace(value, **parts)
    return changed


def sent(value: T, device: torch.device) -> T:
    """A dataclass of tensors on a device, on CUDA without waiting for it."""
    if device.type != "cuda":  # others may read the host's memory after it is free again
        return mapped(value, lambda x: x.to(device))
    return mapped(value, lambda x: x.pin_memory().to(device, non_blocking=True))


class HostCopy:
    """A copy of a tensor on the host, which travels while CUDA goes on with what follows."""

    def __init__(self, x: Tensor) -> None:
        self._copy, self._done = x.to("cpu", non_blocking=x.is_cuda), None
        if x.is_cuda:
            self._done = torch.cuda.Event()
            self._done.record()

    def wait(self) -> np.ndarray:
        """The copy, once it is there."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy.numpy()
