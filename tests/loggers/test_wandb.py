"""Weights & Biases as a logger: when it is online, its names, and what it must not keep."""

import sys

import pytest

from autocaption.loggers.wandb import has_key, wandb_logger
from autocaption.runs.run import Run


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def settings(tmp_path, **changes):
    """The arguments of wandb.init."""
    return wandb_logger(str(tmp_path / "2026-01-01_x"), "project", **changes)._wandb_init


def test_offline_without_a_key(tmp_path):
    assert not has_key()
    assert settings(tmp_path)["mode"] == "offline"


def test_online_with_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert has_key()
    assert settings(tmp_path)["mode"] == "online"


@pytest.mark.parametrize(("host", "found"), [("api.wandb.ai", True), ("elsewhere.org", False)])
def test_a_key_in_netrc_counts_for_its_host(tmp_path, host, found):
    (tmp_path / "netrc").write_text(f"machine {host} login user password {'x' * 40}\n")
    assert has_key() is found


def test_a_server_of_one_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.lab.org:8080")
    (tmp_path / "netrc").write_text(f"machine wandb.lab.org login user password {'x' * 40}\n")
    assert has_key()


def test_the_user_s_mode_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert settings(tmp_path)["mode"] == "disabled"


def test_id_and_name_are_the_run_s_unless_given(tmp_path):
    run = Run.start(tmp_path / "2026-01-01_x", "train", "train.py")
    found = settings(tmp_path)
    assert (found["id"], found["name"]) == (run.id, "2026-01-01_x")
    assert found["resume"] == "allow"
    assert settings(tmp_path, id="a", name="b", group="g")["group"] == "g"
    assert settings(tmp_path, id="a")["id"] == "a"


@pytest.mark.parametrize(("word", "kept"), [("seed=1", True), ("+logger.wandb.api_key=hunter2", False)])
def test_metadata_is_kept_unless_the_command_line_holds_a_secret(tmp_path, monkeypatch, word, kept):
    monkeypatch.setattr(sys, "argv", ["train.py", word])
    found = settings(tmp_path).get("settings")
    assert bool(found is not None and found.x_disable_meta) is not kept
