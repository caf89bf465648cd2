import pytest
import wandb
from helpers.wandb_server import wandb_server


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """A machine that knows nothing of W&B."""
    for name in ("API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "MODE", "DISABLED", "DATA_DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    wandb.teardown()  # it keeps the environment that it was first used in
    yield
    wandb.teardown()


@pytest.fixture
def server(no_account, monkeypatch):
    """A W&B server, and a key for it."""
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        yield server
        wandb.teardown()
