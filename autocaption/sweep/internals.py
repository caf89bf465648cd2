"""Private names of Optuna, each wrapped once; seen with Optuna 5.0."""

from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from autocaption.sweep.study import RELATIVE


def storage_of(study: optuna.Study) -> BaseStorage:
    """Where a study lies."""
    return study._storage


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """The id of a trial in its storage, unlike its number in the study."""
    return trial._trial_id


def id_of_number(study: optuna.Study, number: int) -> int:
    """The id of the trial with this number."""
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def trial_again(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """A running trial to ask for parameters; those that it has are given again."""
    return optuna.Trial(study, frozen._trial_id)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value is within a distribution, and on its grid; ValueError for what is no number."""
    return distribution._contains(distribution.to_internal_repr(value))


class SeededTrial(optuna.Trial):
    """A trial that draws each parameter with a sampler of its own seed, in whatever order they are asked.

    Args:
        trial: the trial.
        sampler_of: the sampler for a parameter's name; for none, that of what is drawn together.
    """

    def __init__(self, trial: optuna.Trial, sampler_of: Callable[..., BaseSampler]) -> None:
        self._sampler_of = sampler_of
        super().__init__(trial.study, trial._trial_id)

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        """A value of the distribution."""
        return self._suggest(name, distribution)

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        _ = self.relative_params  # first of all, whichever parameter is asked first
        self.study.sampler = self._sampler_of(name)
        return super()._suggest(name, distribution)

    @property
    def relative_params(self) -> dict[str, Any]:
        """What the sampler draws together; stored, since some samplers would not draw it again alike."""
        if self._relative_params is None:
            self.study.sampler = self._sampler_of()
            stored = self.user_attrs.get(RELATIVE)
            if stored is None:
                self.set_user_attr(RELATIVE, super().relative_params)
            else:
                study = optuna.pruners._filter_study(self.study, self._cached_frozen_trial)
                self.relative_search_space = self.study.sampler.infer_relative_search_space(
                    study, self._cached_frozen_trial
                )
                self._relative_params = stored
        assert self._relative_params is not None
        return self._relative_params
