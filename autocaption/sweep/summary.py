"""The results of a sweep: a page, the best configuration, the trials as JSON, a W&B run."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from autocaption.files import conf_folder, write_json, write_text
from autocaption.runs.provenance import HIDDEN
from autocaption.sweep.page import importances, write_page
from autocaption.sweep.study import (
    DEFINITION,
    EPOCHS,
    ERROR,
    GROUPS,
    OVERRIDES,
    UID,
    best_trials,
    parameter_names,
    wandb_group,
)


def write_report(study: optuna.Study, folder: Path) -> Path:
    """Write report.html, trials.json and experiment/best.yaml (front_<number>.yaml for a Pareto front).

    Args:
        study: the study.
        folder: the sweep's folder.

    Returns:
        the path of report.html.
    """
    definition = study.user_attrs[DEFINITION]
    objective = definition["objective"]
    best = []
    for trial in best_trials(study):
        name = "best" if len(objective) == 1 else f"front_{trial.number}"
        values = ", ".join(f"{metric} {v:.5g}" for metric, v in zip(objective, trial.values, strict=True))
        text = experiment_yaml(
            [*definition["fixed"], *trial.user_attrs[OVERRIDES]],
            study.user_attrs[GROUPS],
            f"Trial {trial.number} of the sweep {study.study_name}: {values}.",
        )
        (folder / "experiment").mkdir(exist_ok=True)
        write_text(folder / "experiment" / f"{name}.yaml", text)
        command = f"python train.py --config-dir {folder} experiment={name}"
        best.append((f"Trial {trial.number}: {values}", f"{command}\n\n{text}"))
    write_json(
        folder / "trials.json",
        {
            "study": study.study_name,
            **definition,
            "importances": {metric: importances(study, i) for i, metric in enumerate(objective)},
            "trials": [_trial_json(trial, objective) for trial in study.get_trials(deepcopy=False)],
        },
    )
    page = folder / "report.html"
    write_page(study, objective, page, best)
    return page


def experiment_yaml(overrides: Sequence[str], groups: Collection[str], comment: str) -> str:
    """The overrides of a command line as the yaml of an experiment.

    Args:
        overrides: the overrides, in order.
        groups: those keys that are config groups.
        comment: the yaml's opening comment.
    """
    defaults: list[Any] = []
    values: Any = OmegaConf.create({})
    to_give = [one for one in overrides if HIDDEN in one]
    elsewhere: list[str] = []  # choices of folders other than conf/
    for override in OverridesParser.create().parse_overrides([one for one in overrides if HIDDEN not in one]):
        key = override.get_key_element().lstrip("+")
        if key in (*groups, "experiment") and not _is_ours(key, override.value()):
            elsewhere.append(str(override.input_line))
        if override.is_delete():
            to_give.append(str(override.input_line))
        elif key == "experiment":
            defaults.insert(0, override.value())
        elif key in groups:
            defaults.append({f"override /{key}": override.value()})
        else:
            OmegaConf.update(values, key, override.value(), force_add=True)
    lines = ["# @package _global_", *(f"# {line}" for line in comment.splitlines())]
    if to_give:
        lines.append(f"# To be given on the command line: {' '.join(to_give)}")
    if elsewhere:  # Hydra takes one --config-dir, which is that of this file
        lines.append(f"# Add 'hydra.searchpath=[DIR]', the sweep's --config-dir, for {' '.join(elsewhere)}")
    if defaults:
        lines.append(OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]})).rstrip())
    if values:
        lines.append(OmegaConf.to_yaml(values).rstrip())
    return "\n".join(lines) + "\n"


def _is_ours(group: str, choice: Any) -> bool:
    """Whether conf/ has a choice, or none is chosen."""
    return choice is None or (conf_folder() / group.partition("@")[0] / f"{choice}.yaml").is_file()


def log_summary(
    study: optuna.Study, objective: Sequence[str], logger: Mapping[str, Any], folder: Path
) -> None:
    """Log the table of trials and the best values to a W&B run of its own.

    Args:
        study: the study.
        objective: the names of its values.
        logger: the configuration of the trials' W&B logger, resolved.
        folder: the sweep's folder.
    """
    import wandb

    uid = study.user_attrs[UID]
    run = instantiate(
        logger,
        folder=str(folder),
        id=f"{uid}-summary",
        name=f"{study.study_name}/summary",
        group=wandb_group(study.study_name, uid),
        job_type="summary",
    ).experiment
    trials = study.get_trials(deepcopy=False)
    names = parameter_names(trials)
    rows = [
        [trial.number, trial.state.name, *(trial.values or [None] * len(objective))]
        + [trial.params.get(name) for name in names]
        for trial in trials
    ]
    # As text: a W&B column has one type, and the choices of a parameter may have several.
    rows = [[None if cell is None else str(cell) for cell in row] for row in rows]
    run.log({"trials": wandb.Table(columns=["trial", "state", *objective, *names], data=rows)})
    for trial in best_trials(study)[:1]:
        run.summary["best_trial"] = trial.number
        run.summary.update({f"best/{metric}": v for metric, v in zip(objective, trial.values, strict=True)})
        run.summary.update({f"best/{name}": value for name, value in trial.params.items()})
    wandb.finish()


def _trial_json(trial: FrozenTrial, objective: list[str]) -> Mapping[str, object]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": dict(zip(objective, trial.values, strict=False)) if trial.values else None,
        "params": trial.params,
        "epochs": trial.user_attrs.get(EPOCHS),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "error": trial.user_attrs.get(ERROR),
    }
