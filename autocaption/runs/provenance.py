"""How a run was started, and on what; and secrets, which nothing that is kept may hold."""

import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autocaption.files import write_json

log = logging.getLogger(__name__)

PACKAGES = (
    "autocaption",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "timm",
    "hydra-core",
    "omegaconf",
    "wandb",
    "optuna",
    "pillow",
    "numpy",
)
SLURM = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
)
_SECRET = re.compile(
    r"(^|[_.-])(api_?key|(access|secret|private)_key|password|passwd|pwd|secret|token|credentials?)$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(\w+://[^\s:/@]*):(?!\d+/)[^\s@]+@")  # no port, which a path may follow
_NAMED = re.compile(r"([\w.-]+)['\"]?\s*:(?!//)")  # a key in a dict on the command line
_LINE = re.compile(r"^([-+]?[ -]*([\w.]+): +)(\S.*)$", re.MULTILINE)  # key: value in yaml, also in a patch
_REFERENCE = re.compile(r"\$\{(oc\.env:\w+(,(null|\?\?\?))?|[\w.]+)\}")
HIDDEN = "<hidden>"
FILE = "provenance.json"


def provenance() -> dict[str, Any]:
    """Time, command line, package versions and machine of this process."""
    return {
        "started": datetime.now(UTC).isoformat(),
        "command": shlex.join([Path(sys.executable).name, *command_line()]),
        "folder": str(Path.cwd()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "host": platform.node(),
        "gpus": gpus(),
        "slurm": {name: os.environ[name] for name in SLURM if name in os.environ},
    }


def record_start(file: Path, **facts: Any) -> None:
    """Append this process's provenance to a JSON list; a resumed run has several entries.

    A damaged file is put aside, with a warning.

    Args:
        file: the list.
        facts: further entries, such as the state of git.
    """
    write_json(file, [*_entries(file), {**provenance(), **facts}])


def record_fact(file: Path, **facts: Any) -> None:
    """Add to the last entry what is known later, such as the digest of the data."""
    *earlier, last = _entries(file) or [{}]
    write_json(file, [*earlier, {**last, **facts}])


def recorded_before(file: Path, name: str) -> dict[str, Any]:
    """What earlier processes have recorded in the dict of this name, the latest of each key."""
    known = dict[str, Any]()
    for entry in _entries(file)[:-1]:
        known |= entry.get(name) or {}
    return known


def starts(file: Path) -> int:
    """How many processes have recorded their start."""
    return len(_entries(file))


def _entries(file: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
    except FileNotFoundError:
        return []
    except ValueError:
        pass
    aside = file.with_name(f"damaged-{file.name}")
    os.replace(file, aside)
    log.warning("%s was damaged; it is kept as %s, and a new one is begun", file, aside.name)
    return []


def gpus() -> list[str]:
    """Name, memory and driver of each GPU, as nvidia-smi tells them; empty without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def without_secrets(value: Any, key: str = "", references: bool = True) -> Any:
    """A copy of nested plain values without secrets.

    Hidden are values whose key ends in a word such as `api_key`, `password` or `token`, and passwords in
    URLs.

    Args:
        value: the values.
        key: of the value.
        references: whether one to a secret, such as ${oc.env:MY_TOKEN}, stays: it says where it is, not what.
    """
    if isinstance(value, dict):
        inherited = key if _SECRET.search(key) else ""  # everything within a secret is secret
        return {
            name: without_secrets(part, inherited or str(name), references) for name, part in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(part, key, references) for part in value]
    if value is None or (references and isinstance(value, str) and _REFERENCE.fullmatch(value)):
        return value
    if _SECRET.search(key):
        return HIDDEN
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", value) if isinstance(value, str) else value


def command_line() -> list[str]:
    """The script and its arguments, without secrets."""
    return [hide_argument(argument) for argument in sys.argv]


def hide_argument(argument: str) -> str:
    """An argument of the command line, without a secret; a dict that has one is hidden as a whole."""
    key, equals, value = argument.partition("=")
    if not equals:
        return without_secrets(argument)
    if any(_SECRET.search(name) for name in _NAMED.findall(value)):
        return key + equals + HIDDEN
    return key + equals + without_secrets(value, key.lstrip("+~"))


def holds_secret(argument: str) -> bool:
    """Whether `hide_argument` would change it."""
    return hide_argument(argument) != argument


def hide_lines(text: str) -> str:
    """The text of a yaml file, or a patch of one, without the secrets of its lines `key: value`."""

    def hidden(line: re.Match[str]) -> str:
        start, key, value = line.groups()
        return start + (value if value in ("null", "???", "{}", "[]") else without_secrets(value, key))

    return _LINE.sub(hidden, text)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
