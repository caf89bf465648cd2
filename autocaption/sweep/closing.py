"""Which of several sweepers writes the report: the one that ends last, once."""

import secrets

import optuna

from autocaption.sweep.storage import Storage
from autocaption.sweep.study import REPORTED


class Closing:
    """The end of a sweep, as one of its sweepers sees it; made before the first trial is run.

    Args:
        study: the study.
        storage: the study's storage.
        total: how many trials the study shall have.
    """

    def __init__(self, study: optuna.Study, storage: Storage, total: int) -> None:
        self.study, self.storage, self.total = study, storage, total
        # A report from before is written anew: that may be what the user runs the command for.
        self._before = study.user_attrs.get(REPORTED)

    def take_on(self) -> bool:
        """Take on the report, if all trials have ended and no other sweeper has since this one began.

        Returns:
            whether it is this sweeper's now.
        """
        with self.storage.exclusive():
            trials = self.study.get_trials(deepcopy=False)[: self.total]
            if not all(trial.state.is_finished() for trial in trials):
                return False
            reported = self.study.user_attrs.get(REPORTED)
            if reported and reported != self._before and reported["trials"] == len(trials):
                return False
            self.study.set_user_attr(REPORTED, {"trials": len(trials), "by": secrets.token_hex(4)})
            return True
