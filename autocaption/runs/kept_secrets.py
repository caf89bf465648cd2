"""A run's secrets, for the attempts that resume it: in a file of the run folder that only its owner can read.

It lies there as long as the run can be resumed: from its first checkpoint until it has finished. No other
file holds a secret (provenance.py), but those that hand a process its configuration.
"""

import json
import logging
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autocaption.files import write_private_json
from autocaption.runs.provenance import HIDDEN, without_secrets

log = logging.getLogger(__name__)

FILE = ".secrets.json"


def keep(folder: Path, config: Mapping[str, Any]) -> None:
    """Keep the secrets of a configuration in plain values, in place of those that were kept before."""
    if found := secrets_of(config):
        write_private_json(folder / FILE, found)
    else:
        forget(folder)


def kept(folder: Path) -> dict[str, Any]:
    """{key: secret} of a run folder; empty where none are kept, or this user can't read them.

    A copy of the folder may have made the file readable to others: then it says so, and makes it private.
    """
    file = folder / FILE
    try:
        found, mode = json.loads(file.read_text(encoding="utf-8")), stat.S_IMODE(file.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)
            log.warning("%s could be read by others (mode %o); change the secrets if any did", file, mode)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def forget(folder: Path) -> None:
    """Remove the file."""
    (folder / FILE).unlink(missing_ok=True)


def restored(value: Any, *sources: Mapping[str, Any], key: str = "") -> Any:
    """A copy of plain values with the secrets that were hidden in them.

    Args:
        value: the plain values, in which HIDDEN stands for secrets.
        sources: {key: secret}; the first that has a key counts.
        key: of the value.
    """
    if isinstance(value, dict | list):
        parts = {name: restored(part, *sources, key=_within(key, name)) for name, part in _parts(value)}
        return parts if isinstance(value, dict) else list(parts.values())
    if isinstance(value, str) and HIDDEN in value:
        return next((secrets[key] for secrets in sources if key in secrets), value)
    return value


def secrets_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """{key: secret} of a configuration in plain values."""
    return dict(_secrets(config, without_secrets(config)))


def _secrets(value: Any, hidden: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything that `without_secrets` has changed."""
    if isinstance(value, dict | list):
        for (name, part), (_, shown) in zip(_parts(value), _parts(hidden), strict=True):
            yield from _secrets(part, shown, _within(key, name))
    elif value != hidden:
        yield key, value


def _parts(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items() if isinstance(value, dict) else enumerate(value))


def _within(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
