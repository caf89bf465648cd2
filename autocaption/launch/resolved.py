"""The resolved configuration of a launched process."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

_RESOLVER = re.compile(r"\$\{[^{}]*:")  # ${now:...}: only this process has its resolver


def resolved(composed: DictConfig, **changes: Any) -> dict[str, Any]:
    """A composed configuration as plain values, without the nodes of Hydra and of a sweep.

    Args:
        composed: what Hydra composed.
        changes: top-level keys to set, such as run_dir.
    """
    config = composed.copy()
    with open_dict(config):
        config.pop("hydra", None)
        config.pop("sweep", None)
        for key, value in changes.items():
            config[key] = value
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # an error is raised here and now
    return _resolve_resolvers(config, OmegaConf.to_container(config, resolve=False))


def _resolve_resolvers(node: Any, plain: Any) -> Any:
    """Resolve ${resolver:...} only; ${key} stays, so that changing the key later still has its effect."""
    if isinstance(plain, dict):
        return {key: _resolve_resolvers(_child(node, key, part), part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [_resolve_resolvers(_child(node, i, part), part) for i, part in enumerate(plain)]
    return node if isinstance(plain, str) and _RESOLVER.search(plain) else plain


def _child(node: Any, key: Any, plain: Any) -> Any:
    is_needed = isinstance(plain, dict | list) or (isinstance(plain, str) and _RESOLVER.search(plain))
    return node[key] if is_needed else None
