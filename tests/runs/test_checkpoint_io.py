"""Checkpoints reach the disk whole, and their paths follow a moved folder."""

import errno
import os

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from autocaption.errors import UserError
from autocaption.runs import checkpoint_io
from autocaption.runs.checkpoint_io import SafeCheckpointIO, keep_within
from autocaption.runs.folder import is_whole

IO = SafeCheckpointIO()


def content(value, folder="/old/checkpoints"):
    state = {
        "dirpath": folder,
        "best_model_path": f"{folder}/best.ckpt",
        "best_model_score": torch.tensor(0.5),
    }
    state |= {"best_k_models": {f"{folder}/best.ckpt": torch.tensor(0.5)}, "last_model_path": f"{folder}2/x"}
    return {
        "state_dict": {"w": torch.full((100,), value)},
        "callbacks": {"ModelCheckpoint{}": state, "X": {}},
    }


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "checkpoints/last.ckpt"
    IO.save_checkpoint(content(1.0), path)
    assert is_whole(path)
    assert torch.equal(IO.load_checkpoint(path)["state_dict"]["w"], torch.full((100,), 1.0))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_paths_of_callbacks_move_with_the_folder(tmp_path):
    path = tmp_path / "checkpoints/last.ckpt"
    IO.save_checkpoint(content(1.0), path)
    state = IO.load_checkpoint(path)["callbacks"]["ModelCheckpoint{}"]
    folder = str(path.parent)
    assert state["dirpath"] == folder
    assert state["best_model_path"] == f"{folder}/best.ckpt"
    assert list(state["best_k_models"]) == [f"{folder}/best.ckpt"]
    assert state["last_model_path"] == "/old/checkpoints2/x"  # elsewhere


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file"),
    ],
)
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, error):
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(content(1.0), path)

    def fail(checkpoint, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(checkpoint_io.torch, "save", fail)
    with pytest.raises(UserError, match=f"cannot write the checkpoint {path}"):
        IO.save_checkpoint(content(2.0), path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert IO.load_checkpoint(path)["state_dict"]["w"][0] == 1.0


def test_nothing_half_written_ever_has_the_name(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(content(1.0), path)
    seen = []
    replace = os.replace
    monkeypatch.setattr(
        checkpoint_io.os, "replace", lambda *paths: seen.append(is_whole(path)) or replace(*paths)
    )
    IO.save_checkpoint(content(2.0), path)
    assert seen == [True]
    assert IO.load_checkpoint(path)["state_dict"]["w"][0] == 2.0


def test_flipped_bytes_are_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(content(1.0), path)
    data = bytearray(path.read_bytes())
    at = data.index(torch.full((4,), 1.0).numpy().tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{path} is damaged"):
        IO.load_checkpoint(path)


ELSEWHERE = {
    "above": {"filename": "../best"},
    "below": {"filename": "a/b"},
    "absolute": {"filename": "/tmp/best"},
    "last": {"filename": "last"},
    "an older last": {"filename": "last-2"},
    "no text": {"filename": 3},
    "a metric that becomes a folder": {"filename": "{epoch}-{val/bleu4:.3f}"},
    "another folder": {"dirpath": "/tmp/elsewhere"},
}


@pytest.mark.parametrize("given", ELSEWHERE.values(), ids=ELSEWHERE)
def test_names_that_lead_out_of_the_folder_are_refused(given, tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(UserError, match=r"^(filename|dirpath)=.* of a checkpoint: "):
        keep_within(ModelCheckpoint(**{"dirpath": folder, **given}), folder)


def test_names_within_the_folder(tmp_path):
    folder = tmp_path / "checkpoints"
    for name in (None, "best", "{epoch}-{step}", "lasting"):
        keep_within(ModelCheckpoint(folder, name), folder)
    keep_within(ModelCheckpoint(folder, "{val/bleu4:.3f}", auto_insert_metric_name=False), folder)
    anywhere = ModelCheckpoint()
    keep_within(anywhere, folder)
    assert anywhere.dirpath == str(folder)


def test_weights_of_a_wrapped_model_are_read(tmp_path):
    IO.save_checkpoint({"state_dict": {"module.w": torch.ones(2)}}, tmp_path / "a.ckpt")
    assert list(IO.load_checkpoint(tmp_path / "a.ckpt")["state_dict"]) == ["w"]
