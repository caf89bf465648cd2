"""What a sweep leaves beside its trials: a page and the best configuration."""

import json
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from autocaption.errors import UserError
from autocaption.files import write_json
from autocaption.provenance import without_secrets
from autocaption.report.sweep import best_trials, importances, write_page
from autocaption.sweep.best import experiment, write_experiment
from autocaption.sweep.claims import ERROR
from autocaption.sweep.judge import EPOCHS
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import DEFINITION, GROUPS
from autocaption.sweep.trials import OVERRIDES

PLACE = "sweep.json"  # in a sweep's folder: its study and storage


def write_report(study: optuna.Study, folder: Path) -> Path:
    """Write report.html, experiment/best.yaml (one for each trial of a Pareto front) and trials.json.

    Returns:
        the page.
    """
    definition = study.user_attrs[DEFINITION]
    objective = definition["objective"]
    best = []
    for trial in best_trials(study):
        name = "best" if len(objective) == 1 else f"front_{trial.number}"
        values = ", ".join(f"{what} {v:.5g}" for what, v in zip(objective, trial.values, strict=True))
        text = experiment(
            [*definition["fixed"], *trial.user_attrs[OVERRIDES]],
            study.user_attrs[GROUPS],
            f"Trial {trial.number} of the sweep {study.study_name}: {values}.",
        )
        write_experiment(folder / "experiment" / f"{name}.yaml", text)
        best.append((f"Trial {trial.number}: {values}", f"{_command(folder, name)}\n\n{text}"))
    write_json(
        folder / "trials.json",
        {
            "study": study.study_name,
            **definition,
            "importances": {name: importances(study, i) for i, name in enumerate(objective)},
            "trials": [_row(trial, objective) for trial in study.get_trials(deepcopy=False)],
        },
    )
    page = folder / "report.html"
    write_page(study, objective, page, best)
    return page


def remember_place(folder: Path, study: str, storage: str) -> None:
    """Write down where the study lies, for `open_sweep`; a password is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / PLACE, {"study": study, "storage": without_secrets(storage)})


def open_sweep(name: str, storage: str | None) -> tuple[optuna.Study, Path]:
    """The study of a sweep and its folder.

    Args:
        name: the folder, or the study's name where it lies in runs/sweeps.
        storage: its URL, where that needs a password.

    Raises:
        UserError: there is none.
    """
    tried = [Path(name), Path("runs/sweeps") / name]
    folder = next((one for one in tried if (one / PLACE).exists()), None)
    if folder is None:
        raise UserError(f"no sweep in {tried[0].absolute()} or {tried[1].absolute()}; name a sweep's folder")
    place = json.loads((folder / PLACE).read_text(encoding="utf-8"))
    url = storage or place["storage"]
    try:
        study = optuna.load_study(study_name=place["study"], storage=open_storage(url).studies)
    except KeyError:
        raise UserError(f"no study {place['study']} in {without_secrets(url)}; give --storage URL") from None
    return study, folder


def _command(folder: Path, name: str) -> str:
    return f"python train.py --config-dir {folder} experiment={name}"


def _row(trial: FrozenTrial, objective: list[str]) -> Mapping[str, object]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": dict(zip(objective, trial.values, strict=False)) if trial.values else None,
        "params": trial.params,
        "epochs": trial.user_attrs.get(EPOCHS),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "error": trial.user_attrs.get(ERROR),
    }
