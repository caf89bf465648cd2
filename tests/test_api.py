"""The names that `autocaption` offers, and that importing it loads no torch."""

import subprocess
import sys

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed

import autocaption
from autocaption import build
from autocaption.errors import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(a checkpoint's path, the model that it was saved from)."""
    folder = tmp_path_factory.mktemp("api")
    config = composed(*TINY, "logger=csv", f"run_dir={folder}").copy()
    _, captioner = build.from_config(config)
    path = folder / "some.ckpt"
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, path)
    return path, captioner


def test_the_public_names():
    assert set(autocaption.__all__) == {"Captioner", "load"}
    assert all(hasattr(autocaption, name) for name in autocaption.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        autocaption.nothing  # noqa: B018


def test_load_gives_the_model_ready_to_caption(checkpoint):
    path, trained = checkpoint
    captioner = autocaption.load(path)
    assert isinstance(captioner, autocaption.Captioner)
    assert not captioner.training
    assert captioner.device.type == "cpu"
    images_BCHW = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    trained.eval()
    with torch.inference_mode():
        memory_BPD = captioner.encoder(images_BCHW)
        assert torch.equal(memory_BPD, trained.encoder(images_BCHW))
        assert captioner.caption(memory_BPD) == trained.caption(memory_BPD)


def test_load_of_a_missing_checkpoint_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"no\.ckpt"):
        autocaption.load(tmp_path / "no.ckpt")


def test_the_command_line_is_imported_without_torch():
    code = "import sys, autocaption, autocaption.cli; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
