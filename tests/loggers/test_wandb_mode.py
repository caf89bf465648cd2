"""Whether W&B is online, offline or disabled."""

import socket

import pytest

from autocaption.loggers.wandb_mode import Mode, choose_mode

AS_CONFIGURED, FOR_WANDB = "as configured", "as configured for W&B"


def mode(name=None, offline=False, api_key=None):
    return choose_mode(name, offline, api_key)


def test_without_a_key_offline(no_account):
    assert mode() == mode("online") == Mode("offline", "no API key is configured")


def test_with_a_key_and_a_server_online(server):
    assert mode() == mode("online") == Mode("online")


def test_a_key_in_netrc_counts_for_its_server(server, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    machine = server.url.removeprefix("http://")
    (tmp_path / "netrc").write_text(f"machine {machine} login user password {'x' * 40}\n")
    assert mode().name == "online"


def test_an_explicit_key_is_a_key(server, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert mode(api_key="x" * 40).name == "online"


def test_a_server_that_is_not_there_is_found_out_at_once(no_account, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert mode() == Mode("offline", "http://127.0.0.1:9 can't be reached")


def test_a_server_that_never_answers_is_not_waited_for(no_account, monkeypatch):
    monkeypatch.setattr("autocaption.loggers.wandb_mode.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert mode().name == "offline"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "offline"}, Mode("offline", AS_CONFIGURED)),
        ({"offline": True}, Mode("offline", AS_CONFIGURED)),
        ({"name": "disabled"}, Mode("disabled", AS_CONFIGURED)),
    ],
)
def test_what_the_configuration_says_counts(server, arguments, expected):
    assert mode(**arguments) == expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WANDB_MODE", "offline", Mode("offline", FOR_WANDB)),
        ("WANDB_MODE", "disabled", Mode("disabled", FOR_WANDB)),
        ("WANDB_DISABLED", "true", Mode("disabled", AS_CONFIGURED)),
        ("WANDB_DISABLED", "false", Mode("online")),
    ],
)
def test_what_the_environment_says_counts(server, monkeypatch, variable, value, expected):
    monkeypatch.setenv(variable, value)
    assert mode() == expected


def test_wandb_offline_counts(server, tmp_path):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").write_text("[default]\nmode = offline\n")  # as `wandb offline` leaves it
    assert mode() == Mode("offline", FOR_WANDB)
