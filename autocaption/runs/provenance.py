"""How a run was started, and with what code."""

import json
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autocaption.files import write_json

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
_SECRET = re.compile(r"(^|[_.-])(api_?key|password|passwd|secret|token|credentials?)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")
_NAMED = re.compile(r"([\w.-]+)\s*:(?!//)\s*[^,}\]]+")  # key: value in a dict on the command line
HIDDEN = "<hidden>"


def provenance() -> dict[str, Any]:
    """Command line, git commit and package versions of this process."""
    return {
        "command": shlex.join([Path(sys.executable).name, *command_line()]),
        "folder": str(Path.cwd()),
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "host": platform.node(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def record_start(file: Path) -> None:
    """Append this process's provenance to a JSON list; a resumed run has several entries."""
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    write_json(file, [*earlier, provenance()])


def git_state(folder: Path) -> dict[str, Any]:
    """The commit of the work tree that holds the folder, and whether files have changed since."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}


def without_secrets(value: Any, key: str = "") -> Any:
    """A copy of nested plain values without secrets.

    Hidden are values whose key ends in a word such as `api_key`, `password` or `token`, and passwords in
    URLs.
    """
    if isinstance(value, dict):
        inherited = key if _SECRET.search(key) else ""  # everything within a secret is secret
        return {name: without_secrets(part, inherited or str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [without_secrets(part, key) for part in value]
    if _SECRET.search(key) and value is not None:
        return HIDDEN
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", value) if isinstance(value, str) else value


def command_line() -> list[str]:
    """The script and its arguments, without secrets."""
    return [hide_argument(argument) for argument in sys.argv]


def hide_argument(argument: str) -> str:
    """An argument of the command line, without a secret."""
    key, equals, value = argument.partition("=")
    if not equals:
        return argument
    value = _NAMED.sub(
        lambda found: found[0] if not _SECRET.search(found[1]) else f"{found[1]}: {HIDDEN}", value
    )
    return key + equals + without_secrets(value, key)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
