"""What a sweep leaves beside its trials: a page, the best configuration, the trials as JSON, a W&B run."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from autocaption.files import write_json, write_text
from autocaption.sweep.page import importances, write_page
from autocaption.sweep.study import DEFINITION, EPOCHS, ERROR, GROUPS, OVERRIDES, UID, best_trials, group_of


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
        text = experiment_yaml(
            [*definition["fixed"], *trial.user_attrs[OVERRIDES]],
            study.user_attrs[GROUPS],
            f"Trial {trial.number} of the sweep {study.study_name}: {values}.",
        )
        (folder / "experiment").mkdir(exist_ok=True)
        write_text(folder / "experiment" / f"{name}.yaml", text)
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


def experiment_yaml(overrides: Sequence[str], groups: Collection[str], comment: str) -> str:
    """A command line's overrides as an experiment yaml, which `train.py experiment=` takes.

    Args:
        overrides: in the order of the command line.
        groups: keys that choose a file of conf/.
        comment: lines for the top of the file.
    """
    defaults: list[Any] = []
    values: Any = OmegaConf.create({})
    missing = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element().lstrip("+")
        if override.is_delete():
            missing.append(str(override.input_line))
        elif key == "experiment":
            defaults.insert(0, override.value())
        elif key in groups:
            defaults.append({f"override /{key}": override.value()})
        else:
            OmegaConf.update(values, key, override.value(), force_add=True)
    lines = ["# @package _global_", *(f"# {line}" for line in comment.splitlines())]
    if missing:
        lines.append(f"# To be given on the command line: {' '.join(missing)}")
    if defaults:
        lines.append(OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]})).rstrip())
    if values:
        lines.append(OmegaConf.to_yaml(values).rstrip())
    return "\n".join(lines) + "\n"


def log_summary(
    study: optuna.Study, objective: Sequence[str], logger: Mapping[str, Any], folder: Path
) -> None:
    """Log the sweep as a W&B run of its own, in the group of its trials: a table, and the best values.

    Args:
        study: the study.
        objective: the metrics that its values are.
        logger: the configuration of the trials' W&B logger.
        folder: the sweep's folder.
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
    # As text: a W&B column has one type, and a choice may have several.
    rows = [[None if cell is None else str(cell) for cell in row] for row in rows]
    run.log({"trials": wandb.Table(columns=["trial", "state", *objective, *keys], data=rows)})
    for trial in best_trials(study)[:1]:
        run.summary["best_trial"] = trial.number
        run.summary.update({f"best/{what}": v for what, v in zip(objective, trial.values, strict=True)})
        run.summary.update({f"best/{key}": value for key, value in trial.params.items()})
    wandb.finish()


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
