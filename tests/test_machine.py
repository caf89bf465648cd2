"""What a process has of the machine."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from autocaption.machine import keep_freed_memory
if {call}:
    keep_freed_memory()
pieces = [np.ones(2**20) for _ in range(24)]  # of 8 MiB; pages may be of 2
del pieces
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    pieces = [np.ones(2**20) for _ in range(24)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call, **environment):
    """Pages that the system gives a process which takes and frees the same memory again."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(call=call)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise():
    assert faults(True) < 2048
    assert faults(False) > 3 * 64
    assert faults(True, MALLOC_TRIM_THRESHOLD_="131072") > 3 * 64
