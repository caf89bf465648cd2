import functools
import warnings

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from autocaption.errors import UserError
from autocaption.sweep.claims import ATTEMPT
from autocaption.sweep.storage import open_storage

EPOCHS, PRUNED = "epochs", "pruned"  # our attributes of a trial


class StudyJudge:
    """A trial's side of the study: takes its figures and asks the pruner.

    Args:
        storage: URL.
        study: its name.
        number: of the trial.
        attempt: which of the trial's; another one means that this process was thought to be dead.
        pruner: Optuna's.
    """

    def __init__(self, storage: str, study: str, number: int, attempt: int, pruner: BasePruner) -> None:
        self.url, self.name, self.number, self.attempt, self.pruner = storage, study, number, attempt, pruner

    def report(self, epoch: int, value: float) -> bool:
        """Keep the figure; says whether the trial is to be pruned, and keeps that as well.

        A figure that was reported before an interruption is reported again without harm.

        Raises:
            UserError: another process runs this trial now.
        """
        study = self._study
        if study._storage.get_trial(self._trial_id).state is not TrialState.RUNNING:
            return False  # a run of old that is trained on, outside its sweep
        trial = optuna.Trial(study, self._trial_id)
        if trial.user_attrs.get(ATTEMPT) != self.attempt:
            raise UserError(f"trial {self.number} of {self.name} was taken over by another process")
        trial.set_user_attr(EPOCHS, epoch)
        if len(study.directions) > 1:
            return False  # Optuna prunes by one objective only
        with warnings.catch_warnings(action="ignore"):  # on a step that was reported before
            trial.report(value, epoch)
        pruned = trial.should_prune()
        if pruned:
            trial.set_user_attr(PRUNED, epoch)
        return pruned

    @functools.cached_property
    def _study(self) -> optuna.Study:
        return optuna.load_study(
            study_name=self.name,
            storage=open_storage(self.url).studies,
            sampler=optuna.samplers.RandomSampler(),  # not used; the default ones write to the trial
            pruner=self.pruner,
        )

    @functools.cached_property
    def _trial_id(self) -> int:
        return self._study._storage.get_trial_id_from_study_id_trial_number(
            self._study._study_id, self.number
        )
