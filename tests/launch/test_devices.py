"""How GPUs and CPU threads are divided among processes that run at a time."""

import pytest

from autocaption.launch.devices import share, visible_gpus


@pytest.mark.parametrize(
    ("slots", "devices", "gpus", "shares"),
    [
        (2, 1, ["0", "1"], ["0", "1"]),
        (2, 2, ["4", "5", "6", "7"], ["4,5", "6,7"]),
        (4, 1, ["0", "1"], ["0", "1", "0", "1"]),
        (2, "auto", ["0", "1", "2", "3"], ["0,1", "2,3"]),
        (1, 8, ["0", "1"], ["0,1"]),
    ],
)
def test_each_slot_gets_its_gpus(slots, devices, gpus, shares):
    found = [share(slot, slots, devices, gpus, cores=8)["CUDA_VISIBLE_DEVICES"] for slot in range(slots)]
    assert found == shares


def test_without_gpus_only_the_cores_are_divided(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share(0, 4, 1, [], cores=8) == {"OMP_NUM_THREADS": "2"}
    assert share(0, 4, 1, [], cores=2) == {"OMP_NUM_THREADS": "1"}
    assert share(0, 4, 1, ["0"], cores=8) == {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's choice
    assert share(0, 4, 1, [], cores=8) == {}


def test_gpus_come_from_the_environment_before_nvidia_smi(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []  # no nvidia-smi
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-1)'\necho '  MIG 1g'\necho 'GPU 1: H100'\n")
    tool.chmod(0o755)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible_gpus() == ["5", "7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
