"""Checks of the values that users choose; the part that takes a value checks it when it is made."""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from autocaption.errors import UserError

_HOME = re.compile(r"^([\w./@+]+=)~(?=/|$)")


def whole(key: str, value: Any, at_least: int, at_most: int | None = None) -> int:
    """The value, if it is a whole number in a range.

    Raises:
        UserError: names the key, the value and the range.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)  # NumPy's, too
    if not is_whole or value < at_least or (at_most is not None and value > at_most):
        limits = f"{at_least} or more" if at_most is None else f"from {at_least} to {at_most}"
        raise UserError(f"{key}={_shown(value)}: take a whole number, {limits}")
    return int(value)


def number(
    key: str,
    value: Any,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """The value, if it is a finite number within limits.

    Raises:
        UserError: names the key, the value and the limits.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not (at_least <= value <= at_most and above < value < below):
        limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        text = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))
        raise UserError(f"{key}={_shown(value)}: take a number, {text}".rstrip(", "))
    return value


def choice(key: str, value: Any, choices: Sequence[str]) -> str:
    """The value, if it is one of these words.

    Raises:
        UserError: names the key, the value and the words.
    """
    if value not in choices:
        raise UserError(f"{key}={_shown(value)}: take {' or '.join(choices)}")
    return value


def require_keys(key: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Check the keys below another one, such as those of `data.splits`.

    Raises:
        UserError: names those that are not known, and the known ones.
    """
    if odd := sorted(set(given) - set(known)):
        raise UserError(f"{key} names {', '.join(known)}, not {', '.join(odd)}")


def switch(key: str, value: Any) -> bool:
    """The value, if it is true or false; any text, `no` as well, would count as true.

    Raises:
        UserError: names the key.
    """
    if not isinstance(value, bool):
        raise UserError(f"{key}={_shown(value)}: take true or false")
    return value


def as_path(key: str, value: Any) -> Path:
    """The value as a path; `~` is the home folder.

    Raises:
        UserError: names the key that has no value, or several, or a home folder that there isn't.
    """
    if value is None or not str(value) or (isinstance(value, Collection) and not isinstance(value, str)):
        raise UserError(f"{key}={_shown(value)}: give a path")
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:  # ~somebody
        raise UserError(f"{key}={value}: there is no such home folder; give a path") from None


def with_home(words: Sequence[str]) -> list[str]:
    """Words of a command line, with the home folder for ~ in KEY=~/...: Hydra takes none, shells leave it."""
    return [_HOME.sub(lambda key: f"{key[1]}{Path.home()}", word) for word in words]


def _shown(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[-+.\d]+", value):  # else it would look like the number
        return repr(value)
    return "null" if value is None else value
