import gc
import os
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from helpers.flickr8k import write_flickr8k
from hypothesis import settings

os.environ["WANDB_MODE"] = "offline"
torch.set_num_threads(1)  # tiny tensors, and pytest-xdist has a process a core
settings.register_profile("autocaption", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("autocaption")


def pytest_collection_finish():
    """Spare the garbage collector all modules and tests: looking through them is a tenth of the time."""
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()  # or libraries would say that they leak


@pytest.fixture(scope="session")
def shared():
    """The folder of the real data and weights: $AUTOCAPTION_SHARED, or `shared` beside the project."""
    folder = Path(os.environ.get("AUTOCAPTION_SHARED", ROOT.parent / "shared"))
    if not (folder / "flickr8k").is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder


@pytest.fixture
def flickr8k(tmp_path):
    """The root of a tiny data set in Flickr8k's layout."""
    return write_flickr8k(tmp_path / "flickr8k")


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """A machine that knows nothing of W&B."""
    import wandb  # here, since most tests need none of it

    for name in ("API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "MODE", "DISABLED", "DATA_DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    wandb.teardown()  # it keeps the environment that it was first used in
    yield
    wandb.teardown()
