"""A composed configuration: what it must hold, and how a checkpoint's is changed by a command line."""

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from autocaption.errors import UserError

_ABSENT = object()
MISSING, _ENV = "???", "${oc.env:"  # data.root: ${oc.env:AUTOCAPTION_DATA,???}

# What a checkpoint decides about a model, unless the command line says otherwise.
MODEL_KEYS = ("data", "tokenizer", "model", "search", "metrics")


def with_overrides(
    base: DictConfig, composed: DictConfig, overrides: Sequence[str], keys: Sequence[str] | None = None
) -> DictConfig:
    """A checkpoint's configuration with the changes of the command line.

    Changes are copied from the composed configuration: `search=beam` replaces all of `search`,
    `data.root=DIR` that value. A choice that affects the whole configuration (`experiment=...`) replaces
    all of it.

    Args:
        base: the checkpoint's configuration.
        composed: what Hydra composed from the command line.
        overrides: the command line's overrides.
        keys: the top-level keys to take from `base`; None for all of them.
    """
    changes: Any = OverridesParser.create().parse_overrides(list(overrides))
    if any(change.key_or_group in ("experiment", "debug") for change in changes):
        return composed
    new: dict = OmegaConf.to_container(composed, resolve=False)  # type: ignore[assignment]
    old: dict = OmegaConf.to_container(base, resolve=False)  # type: ignore[assignment]
    merged = {**new, **{key: old[key] for key in keys or old}}
    for change in changes:
        _copy(new, merged, change.key_or_group.replace("/", ".").split("."), change.is_delete())
    return OmegaConf.create(merged)


def _copy(source: dict, target: dict, path: list[str], delete: bool) -> None:
    """Copy the value at a path of nested dicts and lists, or delete it in the target."""
    from_node: Any = source
    to_node: Any = target
    for name in path[:-1]:
        if isinstance(to_node, list):
            from_node, to_node = from_node[int(name)], to_node[int(name)]
        else:
            from_node, to_node = from_node.get(name, {}), to_node.setdefault(name, {})
    last: Any = int(path[-1]) if isinstance(to_node, list) else path[-1]
    if not delete:
        to_node[last] = from_node[last]
    elif isinstance(to_node, list) or last in to_node:
        del to_node[last]


def require_values(config: DictConfig) -> None:
    """Check that every key has a value; the `hydra` node is Hydra's.

    Raises:
        UserError: names the first key without one, and the environment variable that may give it.
    """
    for key, text in _leaves(OmegaConf.to_container(config, resolve=False), ""):
        if key.startswith("hydra."):
            continue
        if text == MISSING:
            raise UserError(f"no value for {key}; give it with {key}=VALUE")
        optional = text.startswith(_ENV) and text.endswith(f",{MISSING}}}")
        if optional and OmegaConf.select(config, key) in (None, MISSING):
            variable = text.removeprefix(_ENV).partition(",")[0]
            raise UserError(f"no value for {key}; give it with {key}=VALUE, or set {variable}")


def with_optional_values(config: DictConfig) -> DictConfig:
    """The configuration with the values of `where_present` whose keys it has."""
    changed = config.copy()
    for key, value in (config.get("where_present") or {}).items():
        if OmegaConf.select(config, key, default=_ABSENT) is not _ABSENT:
            OmegaConf.update(changed, key, value)
    return changed


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key, text) of every string in nested dicts."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str):
        yield key, value
