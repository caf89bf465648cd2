"""What this process has of the machine, and how it uses it; free of torch, as what starts fast asks it."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def without_collection() -> Iterator[None]:
    """Let no garbage be looked for while millions of objects are made that are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
