"""From a claimed trial to the resolved configuration that its process gets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption.config import require_values
from autocaption.launch.resolved import resolved
from autocaption.runs.folder import newest_checkpoint
from autocaption.sweep.claims import Claim
from autocaption.sweep.parameters import draw
from autocaption.sweep.space import CustomSpace, Space, as_overrides
from autocaption.sweep.study import OVERRIDES, UID, wandb_group


@dataclass(frozen=True)
class Prepared:
    """A trial that is ready to start.

    Attributes:
        overrides: the command line that would give the same run.
        config: the resolved configuration.
        launcher: `hydra.launcher`, which may depend on the trial.
    """

    overrides: list[str]
    config: dict[str, Any]
    launcher: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trials:
    """Makes the configuration of a claimed trial.

    Attributes:
        loader: Hydra's config loader.
        config: the configuration of the sweep's command.
        base_config: the configuration with the fixed overrides only.
        space: the search space and the fixed overrides.
        groups: those keys of all overrides that are config groups.
        custom: the custom search space, or None.
        callback: the configuration of the callback that reports to the sweep.
    """

    loader: ConfigLoader
    config: DictConfig
    base_config: DictConfig
    space: Space
    groups: Collection[str]
    custom: CustomSpace | None
    callback: dict[str, Any]

    def prepare(self, claim: Claim) -> Prepared:
        """Draw the trial's parameters and compose its configuration."""
        sweep = self.config.sweep
        params = draw(claim.trial, self.space.distributions, self.custom, self.base_config)
        drawn = as_overrides(params)
        overrides = [*sweep.overrides, *self.space.fixed, *drawn]
        composed = self._compose(params, overrides)
        uid = claim.trial.study.user_attrs[UID]
        claim.trial.set_user_attr(OVERRIDES, drawn)
        wandb = {
            "id": f"{uid}-{claim.number}",
            "name": f"{sweep.study_name}/trial_{claim.number}",
            "group": wandb_group(sweep.study_name, uid),
        }
        checkpoint = newest_checkpoint(claim.folder.absolute())
        config = trial_config(composed, claim.folder.absolute(), checkpoint, self.callback, wandb)
        launcher: Any = OmegaConf.to_container(composed.hydra.launcher, resolve=True)
        return Prepared(overrides, config, launcher)

    def _compose(self, params: Mapping[str, Any], overrides: list[str]) -> DictConfig:
        if any(key in self.groups or not key[0].isalpha() for key in params):
            return compose(self.loader, self.config, overrides)
        composed = self.base_config.copy()  # half a second faster than composing again
        for override in OverridesParser.create().parse_overrides(as_overrides(params)):
            OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
        return composed


def callback_config(monitor: str, mode: str) -> dict[str, Any]:
    """The configuration of the callback that reports `monitor` to the sweep."""
    return {
        "_target_": "autocaption.callbacks.pruning.Pruning",
        "monitor": monitor,
        "mode": mode,
        "reporter": {"_target_": "autocaption.launch.parent.ParentReporter"},
    }


def compose(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration that train.py would get from these overrides, `hydra` node included."""
    return loader.load_sweep_config(config, list(overrides))


def trial_config(
    composed: DictConfig, folder: Path, resume: Path | None, callback: dict[str, Any], wandb: dict[str, str]
) -> dict[str, Any]:
    """The configuration of a trial's process, as plain values.

    Args:
        composed: the trial's configuration from `compose`.
        folder: the run folder.
        resume: the checkpoint to resume from, or None.
        callback: the configuration of the callback that reports to the sweep.
        wandb: id, name and group of the W&B run.

    Raises:
        UserError: a key has no value, such as one that a searched group brought along.
    """
    require_values(composed)
    config = composed.copy()
    objective = callback["monitor"]
    with open_dict(config):
        config.optimized_metric = objective
        config.callbacks = {**(config.get("callbacks") or {}), "sweep": callback}
        if "best" in config.callbacks:  # the value of a trial is that of the checkpoint it keeps
            config.callbacks.best.monitor = objective
            config.callbacks.best.mode = callback["mode"]
        if "wandb" in (config.get("logger") or {}):
            config.logger.wandb.update(wandb)
    return resolved(config, run_dir=str(folder), resume=resume and str(resume))
