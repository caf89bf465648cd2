"""The one resolved configuration of a trial."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

_CALL = re.compile(r"\$\{[^{}]*:")  # ${now:...}: needs a resolver that only the sweeper's process has


def compose(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """What train.py would get from these overrides, its `hydra` node included."""
    return loader.load_sweep_config(config, list(overrides))


def trial_config(
    composed: DictConfig, folder: Path, resume: Path | None, callback: dict[str, Any], labels: dict[str, str]
) -> dict[str, Any]:
    """Plain values to hand to a trial's process.

    Args:
        composed: from `compose`.
        folder: of the run.
        resume: the checkpoint to go on from.
        callback: the configuration of the callback that reports to the sweep.
        labels: settings of a W&B run: its id, name and group.
    """
    config = composed.copy()
    objective = callback["monitor"]
    with open_dict(config):
        config.pop("hydra")
        config.pop("sweep", None)
        config.run_dir, config.resume = str(folder), resume and str(resume)
        config.optimized_metric = objective
        config.callbacks = {**(config.callbacks or {}), "sweep": callback}
        if "best" in config.callbacks:  # what is told is the figure of the checkpoint that is kept
            config.callbacks.best.monitor = objective
            config.callbacks.best.mode = callback["mode"]
        if config.logger and "wandb" in config.logger:
            config.logger.wandb = {**config.logger.wandb, **labels}
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # an error is shown now, once
    return _without_calls(config, OmegaConf.to_container(config, resolve=False))


def _without_calls(node: Any, plain: Any) -> Any:
    """Resolve what calls a resolver; a plain ${key} stays, for who changes that key later."""
    if isinstance(plain, dict):
        return {key: _without_calls(_child(node, key, part), part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [_without_calls(_child(node, i, part), part) for i, part in enumerate(plain)]
    return node if isinstance(plain, str) and _CALL.search(plain) else plain


def _child(node: Any, key: Any, plain: Any) -> Any:
    calls = isinstance(plain, str) and _CALL.search(plain)
    return node[key] if calls or isinstance(plain, dict | list) else None
