"""report.html: a sweep as one self-contained HTML page."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autocaption.report import html
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
    names = parameter_names(trials)
    html.write_page(
        file,
        "sweep.html",
        title=f"Sweep {study.study_name}",
        summary=f"{len(trials)} trials ({counts}), {seconds / 3600:.2f} hours of training",
        best=best,
        charts=list(_charts(study, objective)) if complete else [],
        columns=["trial", "state", *objective, *names, "epochs", "seconds", "error"],
        trials=list(_rows(study, trials, objective, names, file.parent)),
        plotly=Markup(get_plotlyjs()),
    )


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


def _charts(study: optuna.Study, objective: Sequence[str]) -> Iterator[tuple[str, Markup]]:
    """(heading, chart) of each chart that the trials give."""
    from optuna import visualization  # loads plotly

    if len(objective) > 1:
        yield _chart("Pareto front", visualization.plot_pareto_front, study)
    for i, name in enumerate(objective):

        def target(trial: FrozenTrial, i: int = i) -> float:
            return trial.values[i]

        named: dict[str, Any] = {"target_name": name}
        if len(objective) > 1:  # given a target, Optuna leaves out the curve of the best value so far
            named["target"] = target
        yield _chart(f"{name}: history", visualization.plot_optimization_history, study, **named)
        parallel = visualization.plot_parallel_coordinate
        yield _chart(f"{name}: parallel coordinates", parallel, study, **named)
        if importances(study, i):
            aim = {"target": _lower_is_better(study, i), "target_name": name}
            yield _chart(f"{name}: importances", visualization.plot_param_importances, study, **aim)
        yield _chart(f"{name}: slices", visualization.plot_slice, study, **named)
    if len(objective) == 1:
        yield _chart("Learning curves", visualization.plot_intermediate_values, study)
    yield _chart("Timeline", visualization.plot_timeline, study)


def _chart(
    heading: str, plot: Callable[..., Any], study: optuna.Study, **settings: Any
) -> tuple[str, Markup]:
    with warnings.catch_warnings(action="ignore"):  # experimental charts
        figure = plot(study, **settings)
    figure.update_layout(
        title=None,
        margin={"t": 30},
        width=None,
        # On the page's own background, in colours that can be read on a light and on a dark one.
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#857d72", "family": "system-ui, sans-serif"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#857d72"},
    )
    grid = {"gridcolor": "rgba(128,120,110,0.25)", "zerolinecolor": "rgba(128,120,110,0.4)"}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    # Plotly escapes what it shows, and its JSON cannot end the script element that holds it.
    return heading, Markup(figure.to_html(full_html=False, include_plotlyjs=False))


def _rows(
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    objective: Sequence[str],
    names: Sequence[str],
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """What the template shows of each trial."""
    best = {trial.number for trial in best_trials(study)}
    for trial in trials:
        name = f"trial_{trial.number}"
        values = [*(trial.values or []), *[None] * len(objective)][: len(objective)]
        seconds = f"{trial.duration.total_seconds():.0f}" if trial.duration else None
        yield {
            "number": trial.number,
            "folder": f"{name}/" if (folder / name).is_dir() else "",
            "report": f"{name}/report.html" if (folder / name / "report.html").is_file() else "",
            "best": trial.number in best,
            "cells": [
                trial.state.name.lower(),
                *values,
                *(trial.params.get(name) for name in names),
                trial.user_attrs.get(EPOCHS),
                seconds,
            ],
            "error": trial.user_attrs.get(ERROR),
        }
