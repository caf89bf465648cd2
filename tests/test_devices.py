"""Two devices: the same model as one, and an end that all ranks share. gloo on the CPU."""

import os
import subprocess
import sys

import pytest
import torch
from helpers import PATIENCE, ROOT
from helpers.commands import TINY, only_run, read, run
from helpers.interruptions import assert_same

PLAIN = [
    *(*TINY, "model=show_attend_tell", "model.encoder._target_=helpers.plain_encoder.PlainEncoder"),
    *("model.encoder.out_dim=16", "model.decoder.embed_dim=16", "model.decoder.hidden_dim=16"),
    *("model.decoder.dropout=0", "data.source.train=77", "trainer.max_epochs=4", "logger=csv"),
]
PATHS = {"PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
NOTES = "+callbacks.notes={_target_: helpers.interruptions.Notes, folder: '${run_dir}'}"


def trained(cwd, *words):
    cwd.mkdir()
    done = run("train.py", *PLAIN, *words, cwd=cwd, **PATHS)
    assert done.returncode == 0, done.stderr
    folder = only_run(cwd)
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True), folder


def test_two_devices_and_accumulation_train_what_one_device_trains(tmp_path):
    one, _ = trained(tmp_path / "one", "trainer=cpu", "data.batch_size=16", "callbacks=ema")
    assert one["global_step"] == 20  # 77 images: the last step of an epoch is smaller
    accumulated = ("trainer.accumulate_grad_batches=2", "data.batch_size=4")
    other, folder = trained(tmp_path / "two", "trainer=ddp_sim", *accumulated, "callbacks=ema", NOTES)
    assert other["global_step"] == 20
    assert not torch.equal(
        one["state_dict"]["decoder.embed.weight"], one["ema_weights"]["decoder.embed.weight"]
    )
    for weights in ("state_dict", "ema_weights"):  # the average, and what it is taken of
        for name, value in one[weights].items():
            torch.testing.assert_close(other[weights][name], value, atol=1e-5, rtol=0)
    assert read(folder / "rank0.json")["weights"] == read(folder / "rank1.json")["weights"]
    assert not (folder / ".ranks").exists()  # the configuration that rank 0 handed over, with its secrets


@pytest.mark.parametrize(
    ("how", "said"),
    [
        pytest.param("mistake", "rank 1: a mistake", marks=pytest.mark.slow),
        ("bug", "rank 1: RuntimeError: a bug; the traceback is in"),
        pytest.param("kill", "rank 1 was killed by SIGKILL", marks=pytest.mark.slow),
    ],
)
def test_a_failure_of_one_rank_ends_all_with_its_message(tmp_path, how, said):
    fail = f"+callbacks.fail={{_target_: helpers.interruptions.OneRank, how: {how}}}"
    done = run("train.py", *PLAIN, "trainer=ddp_sim", fail, cwd=tmp_path, **PATHS)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {said}")
    record = read(only_run(tmp_path) / "run.json")
    assert record["state"] == "failed"
    assert said in record["error"]
    assert not (only_run(tmp_path) / ".ranks").exists()


@pytest.mark.slow
def test_torchrun_makes_one_folder(tmp_path):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", ROOT / "train.py"]
    done = subprocess.run(
        [sys.executable, *words, *PLAIN, "trainer=ddp_sim", "trainer.max_epochs=1", "test=false"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **PATHS},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert read(only_run(tmp_path) / "run.json")["state"] == "finished"


@pytest.mark.slow
def test_features_scheduled_sampling_and_early_stopping_on_two_devices(tmp_path):
    _, folder = trained(
        tmp_path / "two",
        *("trainer=ddp_sim", "data.features=cache", "+model.encoder.frozen=true"),
        *("data.features_folder=features", "scheduled_sampling=0.5", "model.decoder.dropout=0.5"),
        *("callbacks=early_stopping", "callbacks.early_stopping.patience=0", NOTES),
        "+callbacks.early_stopping.stopping_threshold=-1",  # which the first validation exceeds
    )
    first, second = (read(folder / f"rank{rank}.json") for rank in (0, 1))
    assert first["epochs"] == second["epochs"] == 1
    assert first["weights"] == second["weights"]
    pictures = 77 + 7 + 9
    assert pictures <= first["seen"] + second["seen"] < 2 * pictures  # one rank encoded them for both


DEVICES = {1: ("trainer=cpu", "data.batch_size=16"), 2: ("trainer=ddp_sim", "data.batch_size=8")}
STOP = "+callbacks.stop={_target_: helpers.interruptions.OneRank, how: signal, rank: 0}"  # in the second step
STOP_LATE = STOP.replace("}", ", step: 7}")  # in the second epoch


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_resumes_where_it_was_on_another_number_of_devices(tmp_path, before, after):
    whole, _ = trained(tmp_path / "whole", *DEVICES[after])
    (tmp_path / "parts").mkdir()
    done = run("train.py", *PLAIN, *DEVICES[before], STOP, cwd=tmp_path / "parts", **PATHS)
    assert done.returncode == 143, done.stderr
    words = ("resume=last", "++callbacks.stop=null", *DEVICES[after])
    done = run("train.py", *words, cwd=tmp_path / "parts", **PATHS)
    assert (done.returncode, done.stderr) == (0, "")
    folder = only_run(tmp_path / "parts")
    assert 1 < read(folder / "run.json")["attempts"][1]["step"] < 5  # amid the first epoch of five steps
    parts = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert parts["global_step"] == whole["global_step"] == 20
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][name], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_signal_in_the_last_step_stops_two_devices_before_the_test(tmp_path):
    words = ("trainer=ddp_sim", "trainer.max_epochs=1", STOP.replace("}", ", step: 5}"))
    done = run("train.py", *PLAIN, *words, cwd=tmp_path, **PATHS)
    assert done.returncode == 143, done.stderr
    assert not (only_run(tmp_path) / "captions.json").exists()
    again = run("train.py", "resume=last", "++callbacks.stop=null", cwd=tmp_path, **PATHS)
    assert again.returncode == 0, again.stderr
    assert read(only_run(tmp_path) / "metrics.json")["steps"] == 5


SHARDED = (
    *("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"),
    *("data.batch_size=8", "callbacks=ema"),
)


@pytest.fixture(name="sharded", scope="module")
def train_sharded(tmp_path_factory):
    """The last checkpoint and the folder of an uninterrupted run with sharded weights."""
    return trained(tmp_path_factory.mktemp("sharded") / "two", *SHARDED)


@pytest.mark.slow
def test_sharded_weights_train_what_one_device_trains(sharded, tmp_path):
    one, _ = trained(tmp_path / "one", "trainer=cpu", "data.batch_size=16", "callbacks=ema")
    two, folder = sharded
    for weights in ("state_dict", "ema_weights"):
        assert one[weights].keys() == two[weights].keys()
        for name, value in one[weights].items():
            torch.testing.assert_close(two[weights][name], value, atol=1e-5, rtol=0)
    words = (f"checkpoint={folder}/checkpoints/best.ckpt", "trainer=cpu")  # a whole model, for any device
    done = run("eval.py", *words, cwd=tmp_path, **PATHS)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_sharded_weights_resume_in_a_moved_folder_as_if_nothing_had_happened(sharded, tmp_path):
    done = run("train.py", *PLAIN, *SHARDED, STOP_LATE, cwd=tmp_path, **PATHS)
    assert done.returncode == 143, done.stderr
    moved = only_run(tmp_path).rename(tmp_path / "runs/moved")
    done = run("train.py", "resume=last", "++callbacks.stop=null", cwd=tmp_path, **PATHS)
    assert done.returncode == 0, done.stderr
    assert read(moved / "run.json")["attempts"][1]["step"] in (8, 9)
    assert_same(moved, sharded[1])
