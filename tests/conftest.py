import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ["WANDB_MODE"] = "offline"
torch.set_num_threads(1)  # tiny tensors, and pytest-xdist has a process a core
settings.register_profile("autocaption", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("autocaption")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared():
    """The folder of the real data and weights: $AUTOCAPTION_SHARED, or `shared` beside the project."""
    folder = Path(os.environ.get("AUTOCAPTION_SHARED", ROOT.parent / "shared"))
    if not (folder / "flickr8k").is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder
