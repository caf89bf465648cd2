from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from autocaption.sweep.claims import Claim
from autocaption.sweep.folder import last_checkpoint
from autocaption.sweep.sampling import Sampler, draw
from autocaption.sweep.space import CustomSpace, Space, as_overrides
from autocaption.sweep.study import UID
from autocaption.sweep.trial_config import compose, trial_config

OVERRIDES = "overrides"  # our attribute of a trial: its values, as on the command line


@dataclass(frozen=True)
class Prepared:
    """A trial that is ready to start.

    Attributes:
        words: the command line that would give it.
        config: plain values, to hand over.
        devices: that its trainer asks for.
    """

    words: list[str]
    config: dict[str, Any]
    devices: object


@dataclass(frozen=True)
class Trials:
    """Makes a configuration of a claim.

    Attributes:
        loader: Hydra's.
        config: of the sweep's own command.
        standing: the configuration without a search space, for `custom`.
        space: the search space.
        groups: keys that choose a file of conf/.
        custom: more of it, or None.
        sampler: takes a seed.
        callback: the configuration of the callback that reports.
    """

    loader: ConfigLoader
    config: DictConfig
    standing: DictConfig
    space: Space
    groups: Collection[str]
    custom: CustomSpace | None
    sampler: Sampler
    callback: dict[str, Any]

    def prepare(self, claim: Claim) -> Prepared:
        """Draw the trial's values and compose its configuration."""
        sweep, number = self.config.sweep, claim.number
        values = draw(
            claim.trial, self.space.distributions, self.custom, self.standing, self.sampler, sweep.seed
        )
        words = [*sweep.overrides, *self.space.fixed, *as_overrides(values)]
        composed = self._composed(values, words)
        uid = claim.trial.study.user_attrs[UID]
        claim.trial.set_user_attr(OVERRIDES, as_overrides(values))
        labels = {
            "id": f"{uid}-{number}",
            "name": f"{sweep.study_name}/trial_{number}",
            "group": group_of(sweep.study_name, uid),
        }
        config = trial_config(
            composed, claim.folder.absolute(), last_checkpoint(claim.folder), self.callback, labels
        )
        return Prepared(words, config, composed.trainer.devices)

    def _composed(self, values: Mapping[str, Any], words: list[str]) -> DictConfig:
        if any(key in self.groups or not key[0].isalpha() for key in values):
            return compose(self.loader, self.config, words)
        composed = self.standing.copy()  # half a second faster than composing it again
        for override in OverridesParser.create().parse_overrides(as_overrides(values)):
            OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
        return composed


def group_of(study: str, uid: str) -> str:
    """The W&B group of a study."""
    return f"{study}-{uid}"


def callback_config(monitor: str, mode: str) -> dict[str, Any]:
    """The callback that reports to the sweep, as a configuration."""
    return {
        "_target_": "autocaption.callbacks.pruning.Pruning",
        "monitor": monitor,
        "mode": mode,
        "judge": {"_target_": "autocaption.sweep.verdict.SweepJudge"},
    }
