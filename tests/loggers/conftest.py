import pytest
import wandb
from helpers.wandb_server import wandb_server


@pytest.fixture
def server(no_account, monkeypatch):
    """A W&B server, and a key for it."""
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        yield server
        wandb.teardown()
