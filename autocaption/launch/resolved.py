"""One resolved configuration, to hand to a process."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

_CALL = re.compile(r"\$\{[^{}]*:")  # ${now:...}: needs a resolver that only this process has


def resolved(composed: DictConfig, **changes: Any) -> dict[str, Any]:
    """A composed configuration as plain values, without the nodes of Hydra and of a sweep.

    What calls a resolver is resolved; a plain ${key} stays, for who changes that key later.

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
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # an error is shown now, once
    return _without_calls(config, OmegaConf.to_container(config, resolve=False))


def _without_calls(node: Any, plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _without_calls(_child(node, key, part), part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [_without_calls(_child(node, i, part), part) for i, part in enumerate(plain)]
    return node if isinstance(plain, str) and _CALL.search(plain) else plain


def _child(node: Any, key: Any, plain: Any) -> Any:
    calls = isinstance(plain, str) and _CALL.search(plain)
    return node[key] if calls or isinstance(plain, dict | list) else None
