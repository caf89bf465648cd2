"""The resolved configuration of a launched process."""

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption.config import without_resolvers


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
    return without_resolvers(config)
