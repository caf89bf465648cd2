"""Stored features are read without filling memory."""

import subprocess
import sys

READ = """
import numpy as np
from autocaption.data.dataset import FeatureInputs

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

stored = np.lib.format.open_memmap("features.npy", "w+", np.float16, (6000, 1, 49, 1280))  # a sparse file
features, before, most = FeatureInputs(stored, seed=0), resident(), 0
for positions in np.random.RandomState(0).permutation(6000).reshape(-1, 20).tolist():
    assert not features([(0, position) for position in positions]).any()
    most = max(most, resident() - before)
print(most)
"""


def test_a_large_file_is_never_in_memory_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
    )
    assert float(done.stdout) < 400  # of 718 MB
