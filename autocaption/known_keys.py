"""The keys that the configuration may have, for a line about one that it hasn't."""

import difflib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import OmegaConf

from autocaption.errors import UserError
from autocaption.files import conf_folder

GLOBAL = "# @package _global_"
SPELT = "yes", "no", "on", "off"
PICKED = "", "data", "model"  # nodes whose values are picked; others go whole to a constructor, which refuses


def nearest(key: str) -> str:
    """`; did you mean KEY`, or nothing where no key is near."""
    if key in _known():
        return "; another choice of its group has it"
    near = _near(key)
    return f"; did you mean {near}" if near else ""


def require_read(words: Sequence[str]) -> None:
    """Check the keys that a command line adds with a plus: nothing reads one that is mistyped.

    Any other new key is left alone, since the user's own code, or another value (`${KEY}`), may read it. And
    a `no`, which is text to Hydra, would be read as true.

    Args:
        words: of the command line.

    Raises:
        UserError: names the first such key and the one that is near, or the key that is true or false.
    """
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lstrip("+")
        if any(one in SPELT for one in value.lower().split(",")) and _known().get(name):
            raise UserError(f"{word}: take true or false")
        if name == key or not equals or name.rpartition(".")[0] not in PICKED:
            continue
        if (conf_folder() / name).is_dir() or name in _known():  # Hydra takes care of a group
            continue
        if not any(f"${{{name}" in other for other in words) and (near := _near(name)):
            raise UserError(
                f"{key}: nothing reads {name}; did you mean {near}? Name a key of your own otherwise"
            )


def _near(key: str) -> str | None:
    """The known key that is spelt nearly alike, or that has this name in another place."""
    parent, _, name = key.rpartition(".")
    beside = [known for known in _known() if known.rpartition(".")[0] == parent]
    if close := difflib.get_close_matches(key, beside, n=1, cutoff=0.85):
        return close[0]
    elsewhere = [known for known in _known() if known.rpartition(".")[2] == name] if not parent else []
    return min(elsewhere, key=lambda known: known.count("."), default=None)


@functools.cache
def _known() -> dict[str, bool]:
    """All keys of conf/, whichever choices of its groups they belong to: whether each is a truth value."""
    keys: dict[str, bool] = {}
    root = conf_folder()
    for file in sorted(root.glob("**/*.yaml")):
        group = file.parent.relative_to(root).parts
        package = () if file.read_text(encoding="utf-8").startswith(GLOBAL) else group
        node: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        if isinstance(node, dict):
            for key, value in _keys(node, [*package]):
                keys[key] = isinstance(value, bool) or keys.get(key, False)
    return keys


def _keys(node: dict[str, Any], path: list[str]) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        yield ".".join([*path, str(name)]), value
        if isinstance(value, dict):
            yield from _keys(value, [*path, str(name)])
