"""The resolved configuration of a launched process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption.config import without_resolvers


def resolved(composed: DictConfig, **changes: Any) -> dict[str, Any]:
    """A composed configuration as plain values, without the nodes of Hydra and of a sweep.

    Args:
        composed: what Hydra composed.
        changes: top-level keys to set, such as run_dir.
    """
    with _as_hydras(composed):
        return _resolved(composed.copy(), changes)


def _resolved(config: DictConfig, changes: dict[str, Any]) -> dict[str, Any]:
    with open_dict(config):
        config.pop("hydra", None)
        config.pop("sweep", None)
        for key, value in changes.items():
            config[key] = value
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # an error is raised here and now
    return without_resolvers(config)


@contextmanager
def _as_hydras(composed: DictConfig) -> Iterator[None]:
    """Within it, ${hydra:...} means the node `hydra` of this configuration, if it has one."""
    current = HydraConfig.instance()
    previous = current.cfg
    if OmegaConf.get_type(composed, "hydra") is HydraConf:
        current.set_config(composed)
    try:
        yield
    finally:
        current.cfg = previous
