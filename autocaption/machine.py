"""What this process has of the machine, and how it uses it; free of torch, as what starts fast asks it."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of malloc.h: M_MMAP_THRESHOLD, the size from which pieces come from the system one by one, at its limit;
# M_TRIM_THRESHOLD, how much may be left over.
MALLOPT = {-3: 32 * 2**20, -1: 256 * 2**20}  # bytes


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let glibc hand freed memory to whoever asks next, rather than back to the system.

    A training step takes and frees large tensors by the hundred, and the system gives each as new pages,
    which it zeroes one by one: up to a tenth of a step's time on a CPU. Settings in the environment
    (MALLOC_...) win.
    """
    if not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
        if mallopt is not None:  # glibc's; other C libraries have none
            for parameter, limit in MALLOPT.items():
                mallopt(parameter, limit)


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause garbage collection while millions of objects are made, all of which are kept."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
