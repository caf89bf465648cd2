"""Objects of the configuration's nodes, and its plain values."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from autocaption.errors import UserError
from autocaption.files import write_text
from autocaption.runs.provenance import without_secrets


def part(config: DictConfig, key: str, **arguments: Any) -> Any:
    """The object of a part that nothing works without.

    Raises:
        UserError: the configuration has no such part.
    """
    node = OmegaConf.select(config, key)
    if isinstance(node, str):
        raise UserError(
            f"{key}={node} is a word in place of the part; choose a part with {key.replace('.', '/')}={node}"
        )
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        raise UserError(f"the configuration has no {key}, which is needed; `--cfg job` shows what it has")
    return instantiate(node, **arguments)


def parts(group: DictConfig | None) -> list[Any]:
    """The objects of a group; GROUP.NAME=null leaves one out."""
    return [instantiate(node) for node in (group or {}).values() if node is not None]


def save_config(config: DictConfig, path: Path) -> None:
    """Write the resolved configuration, without secrets."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, without secrets, also where another key refers to one."""
    hidden = without_secrets(OmegaConf.to_container(config, resolve=False), references=False)
    return without_secrets(OmegaConf.to_container(OmegaConf.create(hidden), resolve=True))
