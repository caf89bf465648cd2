from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate

from autocaption.report.sweep import best_trials
from autocaption.sweep.study import UID
from autocaption.sweep.trials import group_of


def log_summary(
    study: optuna.Study, objective: Sequence[str], logger: Mapping[str, Any], folder: Path
) -> None:
    """The sweep as a W&B run of its own, beside those of its trials: a table, and the best values.

    Args:
        study: the study.
        objective: names of its values.
        logger: the configuration of the trials' W&B logger.
        folder: of the sweep.
    """
    import wandb

    uid = study.user_attrs[UID]
    run = instantiate(
        logger,
        folder=str(folder),
        id=f"{uid}-summary",
        name=f"{study.study_name}/summary",
        group=group_of(study.study_name, uid),
        job_type="summary",
    ).experiment
    trials = study.get_trials(deepcopy=False)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    rows = [
        [trial.number, trial.state.name, *(trial.values or [None] * len(objective))]
        + [trial.params.get(key) for key in keys]
        for trial in trials
    ]
    # As text: a column of W&B has one type, and a choice may have several.
    rows = [[None if cell is None else str(cell) for cell in row] for row in rows]
    run.log({"trials": wandb.Table(columns=["trial", "state", *objective, *keys], data=rows)})
    for trial in best_trials(study)[:1]:
        run.summary["best_trial"] = trial.number
        run.summary.update({f"best/{what}": v for what, v in zip(objective, trial.values, strict=True)})
        run.summary.update({f"best/{key}": value for key, value in trial.params.items()})
    wandb.finish()
