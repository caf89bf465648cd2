"""Stored features are read without filling memory."""

import multiprocessing

import numpy as np
from helpers.processes import exit_codes, forked

from autocaption.data.dataset import FeatureInputs


def resident():
    """The memory of this process, in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def read_all(stored, most):
    """Read features in random order; `most` is by how much the process grew at the most."""
    features, before = FeatureInputs(stored, seed=0), resident()
    for positions in np.random.RandomState(0).permutation(len(stored)).reshape(-1, 20).tolist():
        assert features([(0, position) for position in positions]).shape == (20, 49, 1280)
        most.value = max(most.value, resident() - before)


def test_a_large_file_is_never_in_memory_whole(tmp_path):
    file, most = tmp_path / "features.npy", multiprocessing.Value("d", 0)
    stored = np.lib.format.open_memmap(file, "w+", np.float16, (6000, 1, 49, 1280))  # a sparse file
    assert exit_codes(forked(read_all, stored, most)) == [0]  # a process whose memory nothing else fills
    assert 0 < most.value < 400  # of 718 MB
