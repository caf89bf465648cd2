import optuna
from optuna.trial import TrialState

from autocaption.sweep.claims import ATTEMPT

EPOCHS, PRUNED = "epochs", "pruned"  # our attributes of a trial


class StudyJudge:
    """Keeps a trial's figures in the study and asks its pruner.

    Args:
        study: with the pruner.
        number: of the trial.
        attempt: which of the trial's; another one means that ours was thought to be dead.
    """

    def __init__(self, study: optuna.Study, number: int, attempt: int) -> None:
        self.study, self.attempt = study, attempt
        self.storage = study._storage
        self.trial_id = self.storage.get_trial_id_from_study_id_trial_number(study._study_id, number)

    def goes_on(self) -> bool:
        """Whether the trial runs and this attempt is the one that counts."""
        trial = self.storage.get_trial(self.trial_id)
        return trial.state is TrialState.RUNNING and trial.user_attrs.get(ATTEMPT) == self.attempt

    def report(self, epoch: int, value: float, last: bool) -> bool:
        """Keep the figure; says whether the trial is to end, and keeps that as well.

        A figure that was reported before an interruption is reported again without harm.
        """
        if not self.goes_on():
            return True
        self.storage.set_trial_user_attr(self.trial_id, EPOCHS, epoch)
        if len(self.study.directions) > 1:
            return False  # Optuna prunes by one objective only
        self.storage.set_trial_intermediate_value(self.trial_id, epoch, value)
        pruned = not last and self.study.pruner.prune(self.study, self.storage.get_trial(self.trial_id))
        if pruned:
            self.storage.set_trial_user_attr(self.trial_id, PRUNED, epoch)
        return pruned
