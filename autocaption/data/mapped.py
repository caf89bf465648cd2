import mmap

import numpy as np


def give_back(stored: np.memmap) -> None:
    """Let go of the pages of a mapped file, which count as this process's memory once they were touched.

    What was written to them stays written, and they can be touched again.
    """
    stored._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
