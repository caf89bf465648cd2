"""Provenance, and that secrets are hidden."""

import json
import platform
import subprocess

import pytest
import torch

from autocaption.runs.provenance import (
    HIDDEN,
    command_line,
    git_state,
    provenance,
    record_start,
    without_secrets,
)

SECRET_KEYS = [
    "api_key",
    "apikey",
    "WANDB_API_KEY",
    "password",
    "db_password",
    "passwd",
    "secret",
    "client-secret",
    "token",
    "hf_token",
    "logger.wandb.token",
    "credentials",
    "credential",
]
OPEN_KEYS = [
    "tokenizer",
    "token_count",
    "tokens",
    "max_tokens",
    "secretary",
    "passwords_seen",
    "key",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("secret", ["hunter2", 12345, ["hunter2", "x"]])
def test_secrets_are_hidden_at_any_depth(key, secret):
    config = {"logger": [{"wandb": {key: secret, "project": "p"}}], key: secret}
    hidden = [HIDDEN, HIDDEN] if isinstance(secret, list) else HIDDEN
    expected = {"logger": [{"wandb": {key: hidden, "project": "p"}}], key: hidden}
    assert without_secrets(config) == expected
    assert config[key] == secret  # a copy


@pytest.mark.parametrize("key", OPEN_KEYS)
@pytest.mark.parametrize("value", ["words", 7, {"rule": "words", "min_count": 3}, [1, 2]])
def test_values_that_only_sound_secret_stay(key, value):
    assert without_secrets({key: value, "n": {key: value}}) == {key: value, "n": {key: value}}


def test_missing_secret_is_not_hidden():
    assert without_secrets({"api_key": None}) == {"api_key": None}


def test_everything_within_a_secret_is_hidden():
    assert "hunter2" not in json.dumps(without_secrets({"credentials": {"user": "me", "login": "hunter2"}}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("postgresql://me:hunter2@host:5432/db", f"postgresql://me:{HIDDEN}@host:5432/db"),
        ("postgresql+psycopg2://me:hunter2@host/db", f"postgresql+psycopg2://me:{HIDDEN}@host/db"),
        ("redis://:hunter2@host", f"redis://:{HIDDEN}@host"),
        ("http://a:b@c and http://d:e@f", f"http://a:{HIDDEN}@c and http://d:{HIDDEN}@f"),
        ("http://localhost:8080/me@x", "http://localhost:8080/me@x"),
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("me:you@host", "me:you@host"),
    ],
)
def test_passwords_in_urls(value, expected):
    assert without_secrets({"storage": value, "all": [value]}) == {"storage": expected, "all": [expected]}


def test_the_command_line_without_secrets(monkeypatch):
    words = ["train.py", "seed=1", "+logger.wandb.api_key=hunter2", "tokenizer=words", "-m"]
    monkeypatch.setattr("sys.argv", [*words, "sweep.storage=mysql://me:hunter2@host/db?a=b"])
    assert command_line() == [
        *("train.py", "seed=1", f"+logger.wandb.api_key={HIDDEN}", "tokenizer=words", "-m"),
        f"sweep.storage=mysql://me:{HIDDEN}@host/db?a=b",
    ]
    assert "hunter2" not in json.dumps(provenance())


def test_a_secret_within_an_argument_s_dict(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "+logger.wandb={api_key: hunter2, project: p}"])
    assert "hunter2" not in " ".join(command_line())


def test_provenance_names_versions_and_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = provenance()
    assert found["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert None not in found["packages"].values()
    assert found["python"] == platform.python_version()
    assert found["folder"] == str(tmp_path)


def test_record_start_appends(tmp_path, monkeypatch):
    file = tmp_path / "provenance.json"
    for seed in (1, 2, 3):
        monkeypatch.setattr("sys.argv", ["train.py", f"seed={seed}"])
        record_start(file)
    commands = [entry["command"] for entry in json.loads(file.read_text())]
    assert [command.split(maxsplit=1)[1] for command in commands] == [f"train.py seed={n}" for n in (1, 2, 3)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["provenance.json"]


@pytest.fixture
def work_tree(tmp_path, monkeypatch):
    """(a new repository with one commit, a function that runs git in it)."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where tests run from a git hook
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.check_output(command, cwd=tmp_path, text=True).strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "one", "--no-verify", "--no-gpg-sign")
    return tmp_path, git


def test_git_state_tells_changed_files(work_tree):
    folder, git = work_tree
    commit = git("log", "--format=%H")
    (folder / "result.json").write_text("{}")  # not code of the commit
    assert git_state(folder) == {"commit": commit, "changed": False}
    (folder / "code.py").write_text("2\n")
    assert git_state(folder) == {"commit": commit, "changed": True}


def test_git_state_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("GIT_DIR", raising=False)
    assert git_state(tmp_path) == {"commit": None, "changed": False}


def test_git_state_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == {"commit": None, "changed": False}
