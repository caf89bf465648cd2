"""From a claimed trial to the one resolved configuration that its process gets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption.launch.resolved import resolved
from autocaption.runs.folder import newest_whole
from autocaption.sweep.claims import Claim
from autocaption.sweep.parameters import Sampler, draw
from autocaption.sweep.space import CustomSpace, Space, as_overrides
from autocaption.sweep.study import OVERRIDES, UID, group_of


@dataclass(frozen=True)
class Prepared:
    """A trial that is ready to start.

    Attributes:
        overrides: the command line that would give the same run.
        config: the resolved configuration, as plain values.
        devices: what its trainer asks for.
    """

    overrides: list[str]
    config: dict[str, Any]
    devices: object


@dataclass(frozen=True)
class Trials:
    """Turns claimed trials into configurations.

    Attributes:
        loader: Hydra's configuration loader.
        config: the configuration of the sweep's own command.
        base: the configuration without the search space.
        space: the search space.
        groups: keys that choose a file of conf/.
        custom: adds to the search space, or None.
        sampler: takes a seed.
        callback: the configuration of the callback that reports values.
    """

    loader: ConfigLoader
    config: DictConfig
    base: DictConfig
    space: Space
    groups: Collection[str]
    custom: CustomSpace | None
    sampler: Sampler
    callback: dict[str, Any]

    def prepare(self, claim: Claim) -> Prepared:
        """Draw the trial's values and compose its configuration."""
        sweep, number = self.config.sweep, claim.number
        values = draw(claim.trial, self.space.distributions, self.custom, self.base, self.sampler, sweep.seed)
        overrides = [*sweep.overrides, *self.space.fixed, *as_overrides(values)]
        composed = self._composed(values, overrides)
        uid = claim.trial.study.user_attrs[UID]
        claim.trial.set_user_attr(OVERRIDES, as_overrides(values))
        labels = {
            "id": f"{uid}-{number}",
            "name": f"{sweep.study_name}/trial_{number}",
            "group": group_of(sweep.study_name, uid),
        }
        folder = claim.folder.absolute()
        checkpoint, _ = newest_whole(folder / "checkpoints")
        config = trial_config(composed, folder, checkpoint, self.callback, labels)
        return Prepared(overrides, config, composed.trainer.devices)

    def _composed(self, values: Mapping[str, Any], overrides: list[str]) -> DictConfig:
        if any(key in self.groups or not key[0].isalpha() for key in values):
            return compose(self.loader, self.config, overrides)
        composed = self.base.copy()  # half a second faster than composing it again
        for override in OverridesParser.create().parse_overrides(as_overrides(values)):
            OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
        return composed


def callback_config(monitor: str, mode: str) -> dict[str, Any]:
    """The callback that reports to the sweep, as a configuration."""
    return {
        "_target_": "autocaption.callbacks.pruning.Pruning",
        "monitor": monitor,
        "mode": mode,
        "reporter": {"_target_": "autocaption.launch.parent.ParentReporter"},
    }


def compose(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """What train.py would get from these overrides, its `hydra` node included."""
    return loader.load_sweep_config(config, list(overrides))


def trial_config(
    composed: DictConfig, folder: Path, resume: Path | None, callback: dict[str, Any], labels: dict[str, str]
) -> dict[str, Any]:
    """Plain values to hand to a trial's process.

    Args:
        composed: from `compose`.
        folder: the run folder.
        resume: the checkpoint to resume from, or None.
        callback: the configuration of the callback that reports values.
        labels: id, name and group of the W&B run.
    """
    config = composed.copy()
    objective = callback["monitor"]
    with open_dict(config):
        config.optimized_metric = objective
        config.callbacks = {**(config.get("callbacks") or {}), "sweep": callback}
        if "best" in config.callbacks:  # the value of a trial is that of the checkpoint that is kept
            config.callbacks.best.monitor = objective
            config.callbacks.best.mode = callback["mode"]
        if "wandb" in (config.get("logger") or {}):
            config.logger.wandb = {**config.logger.wandb, **labels}
    return resolved(config, run_dir=str(folder), resume=resume and str(resume))
