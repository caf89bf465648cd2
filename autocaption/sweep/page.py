"""report.html: a sweep as one self-contained HTML page."""

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autocaption.files import write_text
from autocaption.report.html import cell, page, row, table
from autocaption.sweep.study import EPOCHS, ERROR, best_trials, parameter_names


def write_page(
    study: optuna.Study, objective: Sequence[str], file: Path, best: Sequence[tuple[str, str]]
) -> None:
    """Write the page.

    Args:
        study: the study.
        objective: the names of its values.
        file: the page's path; its links to trial folders are relative.
        best: (heading, text) of each best trial, shown first.
    """
    from plotly.offline import get_plotlyjs

    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    counts = ", ".join(
        f"{sum(trial.state is state for trial in trials)} {state.name.lower()}" for state in TrialState
    )
    seconds = sum(t.duration.total_seconds() for t in trials if t.state.is_finished() and t.duration)
    body = [
        f"<p>{len(trials)} trials ({counts}), {seconds / 3600:.2f} hours of training</p>",
        *(f"<h2>{html.escape(heading)}</h2><pre>{html.escape(text)}</pre>" for heading, text in best),
        *(_charts(study, objective) if complete else ["<p>No trial is complete yet.</p>"]),
        "<h2>Trials</h2>",
        _table(study, trials, objective, file.parent),
    ]
    write_text(file, page(f"Sweep {study.study_name}", body, get_plotlyjs()))


def importances(study: optuna.Study, value: int) -> dict[str, float]:
    """Each parameter's importance for one of the values, summing to 1; empty if there are too few trials."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return optuna.importance.get_param_importances(study, target=_lower_is_better(study, value))
    except (ValueError, RuntimeError):
        return {}


def _lower_is_better(study: optuna.Study, value: int) -> Callable[[FrozenTrial], float] | None:
    """Optuna's importances take lower values as better, but know the direction of a single objective."""
    if len(study.directions) == 1:
        return None
    sign = -1.0 if study.directions[value] is StudyDirection.MAXIMIZE else 1.0
    return lambda trial: sign * trial.values[value]


def _charts(study: optuna.Study, objective: Sequence[str]) -> Iterator[str]:
    from optuna import visualization  # loads plotly

    if len(objective) > 1:
        yield from _chart("Pareto front", visualization.plot_pareto_front, study)
    for i, name in enumerate(objective):

        def target(trial: FrozenTrial, i: int = i) -> float:
            return trial.values[i]

        named: dict[str, Any] = {"target_name": name}
        if len(objective) > 1:  # given a target, Optuna leaves out the curve of the best value so far
            named["target"] = target
        yield from _chart(f"{name}: history", visualization.plot_optimization_history, study, **named)
        parallel = visualization.plot_parallel_coordinate
        yield from _chart(f"{name}: parallel coordinates", parallel, study, **named)
        if importances(study, i):
            aim = {"target": _lower_is_better(study, i), "target_name": name}
            yield from _chart(f"{name}: importances", visualization.plot_param_importances, study, **aim)
        yield from _chart(f"{name}: slices", visualization.plot_slice, study, **named)
    if len(objective) == 1:
        yield from _chart("Learning curves", visualization.plot_intermediate_values, study)
    yield from _chart("Timeline", visualization.plot_timeline, study)


def _chart(heading: str, plot: Callable[..., Any], study: optuna.Study, **settings: Any) -> Iterator[str]:
    with warnings.catch_warnings(action="ignore"):  # experimental charts
        figure = plot(study, **settings)
    figure.update_layout(title=None, margin={"t": 30}, width=None)
    yield f"<h2>{html.escape(heading)}</h2>"
    yield figure.to_html(full_html=False, include_plotlyjs=False)


def _table(study: optuna.Study, trials: Sequence[FrozenTrial], objective: Sequence[str], folder: Path) -> str:
    names = parameter_names(trials)
    best = {trial.number for trial in best_trials(study)}
    rows = []
    for trial in trials:
        folder_name = f"trial_{trial.number}"
        has_folder = (folder / folder_name).is_dir()
        number = f'<a href="{folder_name}/">{trial.number}</a>' if has_folder else str(trial.number)
        values = [*(trial.values or []), *[None] * len(objective)][: len(objective)]
        cells = [
            f"<td>{number}</td>",
            cell(trial.state.name.lower()),
            *(cell(value) for value in values),
            *(cell(trial.params.get(name)) for name in names),
            cell(trial.user_attrs.get(EPOCHS)),
            cell(f"{trial.duration.total_seconds():.0f}" if trial.duration else None),
            cell(trial.user_attrs.get(ERROR), "error"),
        ]
        rows.append(row(cells, "best" if trial.number in best else ""))
    return table(["trial", "state", *objective, *names, "epochs", "seconds", "error"], rows)
