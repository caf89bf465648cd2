"""Provenance, and that secrets are hidden."""

import json
import platform
from datetime import datetime

import pytest
import torch

from autocaption.runs.provenance import (
    HIDDEN,
    command_line,
    hide_argument,
    hide_lines,
    holds_secret,
    provenance,
    record_fact,
    record_start,
    starts,
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
        ("postgresql://me:hunter/2@host/db", f"postgresql://me:{HIDDEN}@host/db"),  # as SQLAlchemy reads it
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


@pytest.mark.parametrize(
    "argument",
    [
        "+logger.wandb={api_key: hunter2, project: p}",
        "+logger.wandb={project: p, 'api_key': 'x, hunter2'}",
        "+logger.wandb={credentials: {user: me, login: hunter2}}",
        "+password=hunter2",
        "++data.password=hunter2",
        "data.password=choice(a,hunter2)",
        "AWS_SECRET_ACCESS_KEY=hunter2",
        "mysql://me:hunter2@host",
    ],
)
def test_a_secret_anywhere_in_an_argument(argument):
    assert "hunter2" not in hide_argument(argument)
    assert holds_secret(argument)


@pytest.mark.parametrize(
    "argument",
    ["seed=1", "tokenizer=words", "+a={tokens: 3}", "-m", "data.root=/a:b", "x={url: 'http://a:8'}"],
)
def test_an_argument_without_a_secret_stays(argument):
    assert hide_argument(argument) == argument
    assert not holds_secret(argument)


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


def test_lines_of_yaml_without_secrets():
    text = "a: 1\nb:\n  password: hunter2\n- token: hunter2\nurl: x://me:hunter2@h\ntoken: null\n"
    assert hide_lines(text) == (
        f"a: 1\nb:\n  password: {HIDDEN}\n- token: {HIDDEN}\nurl: x://me:{HIDDEN}@h\ntoken: null\n"
    )


def test_a_start_has_its_facts_and_gets_more(tmp_path):
    file = tmp_path / "provenance.json"
    record_start(file, git={"commit": "abc"})
    record_start(file, git={"commit": "def"})
    record_fact(file, data={"train": "123"})
    first, second = json.loads(file.read_text())
    assert (first["git"], second["git"]) == ({"commit": "abc"}, {"commit": "def"})
    assert "data" not in first
    assert second["data"] == {"train": "123"}
    assert datetime.fromisoformat(first["started"]) <= datetime.fromisoformat(second["started"])
    assert starts(file) == 2
    file.unlink()  # while the run goes on
    record_fact(file, data={})
    assert json.loads(file.read_text()) == [{"data": {}}]


@pytest.mark.parametrize("text", ["", "[{", "{}", "[1]", "\x00"])
def test_a_damaged_list_is_put_aside_with_a_warning(tmp_path, caplog, text):
    file = tmp_path / "provenance.json"
    file.write_text(text)
    assert starts(file) == 0
    record_start(file)
    assert len(json.loads(file.read_text())) == 1
    assert (tmp_path / "damaged-provenance.json").read_text() == text
    (line,) = caplog.messages
    assert "was damaged" in line


def test_the_gpus_are_those_of_nvidia_smi(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 570.86'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert provenance()["gpus"] == ["NVIDIA H100, 81559 MiB, 570.86"]
    tool.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert provenance()["gpus"] == []
    monkeypatch.setenv("PATH", "")
    assert provenance()["gpus"] == []


def test_the_slurm_job_is_named(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert provenance()["slurm"]["SLURM_JOB_ID"] == "17"
    monkeypatch.delenv("SLURM_JOB_ID")
    assert "SLURM_JOB_ID" not in provenance()["slurm"]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("${oc.env:TOKEN}", "${oc.env:TOKEN}"),
        ("${oc.env:TOKEN,null}", "${oc.env:TOKEN,null}"),
        ("${oc.env:TOKEN,hunter2}", HIDDEN),
        ("${other.token}", "${other.token}"),
        ("${hunter2:x}", HIDDEN),
    ],
)
def test_a_reference_to_a_secret_is_none(text, hidden):
    assert without_secrets({"token": text}) == {"token": hidden}
