"""How GPUs and CPU threads are divided among processes that run at a time."""

import contextlib
import subprocess
import tempfile

import pytest
from helpers.scripts import run_here

from autocaption.launch.devices import announced, reserved, threads, visible_gpus


@pytest.fixture(autouse=True)
def _machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def gpus(*names):
    return {name: name for name in names}


@pytest.mark.parametrize(
    ("slots", "devices", "ids", "shares"),
    [
        (2, [1, 1], "01", ["0", "1"]),
        (2, [2, 2], "4567", ["4,5", "6,7"]),
        (2, [2, 1, 1], "0123", ["0,1", "2", "3"]),
        (2, [1, 2, 1], "0123", ["0", "1,2", "3"]),
        (4, [1, 1, 1, 1], "01", ["0", "1", "0", "1"]),
        (4, [1, 1, 1, 1, 1], "01", ["0", "1", "0", "1", "0"]),
        (2, ["auto", "auto"], "0123", ["0,1", "2,3"]),
        (1, [8, 1], "01", ["0,1", "0"]),
    ],
)
def test_processes_get_the_gpus_that_the_fewest_others_use(slots, devices, ids, shares):
    with contextlib.ExitStack() as running:
        for wanted, share in zip(devices, shares, strict=True):
            found, _ = running.enter_context(reserved(gpus(*ids), "auto", wanted, slots))
            assert found == {"CUDA_VISIBLE_DEVICES": share}


def test_a_reservation_lasts_as_long_as_its_process():
    with reserved(gpus("0", "1"), "gpu", 1) as (_, locks):
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=locks)
    with reserved(gpus("0", "1"), "gpu", 1) as (found, _):
        assert found == {"CUDA_VISIBLE_DEVICES": "1"}
    process.kill()
    process.communicate()
    with reserved(gpus("0", "1"), "gpu", 1) as (found, _):
        assert found == {"CUDA_VISIBLE_DEVICES": "0"}


def test_the_same_id_in_two_jobs_may_be_two_gpus():
    with (
        reserved({"0": "GPU-a"}, "auto", 1) as (one, _),
        reserved({"0": "GPU-b", "1": "GPU-a"}, "auto", 1) as (two, _),
        reserved({"0": "GPU-a", "1": "GPU-c"}, "auto", 1) as (three, _),
    ):
        assert [found["CUDA_VISIBLE_DEVICES"] for found in (one, two, three)] == ["0", "0", "1"]


def test_a_run_on_the_cpu_reserves_nothing():
    with reserved(gpus("0"), "cpu", 1) as found:
        assert found == ({}, [])
    with reserved({}, "auto", "auto") as found:
        assert found == ({}, [])


def test_the_cores_are_divided(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    assert threads(4) == {"OMP_NUM_THREADS": "2"}
    assert threads(16) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's choice
    assert threads(4) == {}


def test_gpus_come_from_the_environment_before_nvidia_smi(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == {}  # no nvidia-smi
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-a)'\necho '  MIG 1g'\necho 'GPU 1: H100'\n")
    tool.chmod(0o755)
    assert visible_gpus() == {"0": "GPU-a", "1": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,7,GPU-b,-1,1")
    assert visible_gpus() == {"0": "GPU-a", "7": "7", "GPU-b": "GPU-b"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == {}


@pytest.mark.parametrize(
    ("accelerator", "devices", "first_free"),
    [("auto", 1, "1"), ("gpu", 2, "2"), ("cuda", [0, 2], "1"), ("auto", "auto", "0"), ("cpu", 1, "0")],
)
def test_a_sweep_leaves_the_gpus_alone_that_a_run_of_its_own_has_taken(
    accelerator, devices, first_free, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with announced(accelerator, devices), reserved(gpus("0", "1", "2"), "auto", 1) as (found, _):
        assert found == {"CUDA_VISIBLE_DEVICES": first_free}
    with reserved(gpus("0", "1", "2"), "auto", 1) as (found, _):  # it has ended
        assert found == {"CUDA_VISIBLE_DEVICES": "0"}


def test_two_runs_may_share_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with announced("gpu", 1), announced("gpu", 1), reserved(gpus("0"), "gpu", 1) as (found, _):
        assert found == {"CUDA_VISIBLE_DEVICES": "0"}


def test_a_command_takes_its_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (tmp_path / "probe.py").write_text(
        "from autocaption.cli import command\n"
        "from autocaption.launch.devices import reserved, visible_gpus\n"
        "def probe(config):\n"
        "    with reserved(visible_gpus(), 'auto', 1) as (found, _):\n"
        "        print(found)\n"
        "command(probe, 'train')\n"
    )
    for words, free in (((), "1"), (("trainer=cpu",), "0")):
        done = run_here("probe.py", *words, cwd=tmp_path)
        assert done.stdout == f"{{'CUDA_VISIBLE_DEVICES': '{free}'}}\n", done.stderr
