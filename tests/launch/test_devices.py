"""How processes on one machine share its GPUs and cores."""

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
def test_gpus_are_handed_out(slots, devices, gpus, shares):
    given = [share(slot, slots, devices, gpus, cores=8)["CUDA_VISIBLE_DEVICES"] for slot in range(slots)]
    assert given == shares


def test_without_gpus_only_the_cores_are_shared(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share(0, 4, 1, [], cores=8) == {"OMP_NUM_THREADS": "2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert share(0, 4, 1, [], cores=8) == {}


def test_only_the_gpus_that_the_user_allows(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_a_machine_without_nvidia_smi_has_no_gpu(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []


def test_gpus_are_counted_without_starting_cuda(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: a)'\necho 'GPU 1: B (UUID: b)'\necho '  MIG 1g'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert visible_gpus() == ["0", "1"]
