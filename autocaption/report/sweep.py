"""A sweep as one page that needs nothing beside it."""

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autocaption.files import write_whole
from autocaption.sweep.claims import ERROR
from autocaption.sweep.judge import EPOCHS

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: 0.2em 0.8em; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }}
td.error {{ white-space: normal; color: #a00; }}
tr.best {{ font-weight: bold; background: #eef7ee; }}
pre {{ background: #f5f5f5; padding: 1em; overflow-x: auto; }}
.wide {{ overflow-x: auto; }}
</style>
<script>{script}</script></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{best}
{charts}
<h2>Trials</h2>
<div class="wide">{table}</div>
</body></html>
"""


def write_page(
    study: optuna.Study, objective: Sequence[str], file: Path, best: Sequence[tuple[str, str]]
) -> None:
    """Write the page.

    Args:
        study: the study.
        objective: names of its values.
        file: where to; links to the trials' folders are relative to it.
        best: (heading, text) to show on top, such as how to train the best configuration.
    """
    from plotly.offline import get_plotlyjs

    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    counts = ", ".join(
        f"{sum(trial.state is state for trial in trials)} {state.name.lower()}" for state in TrialState
    )
    spent = sum(t.duration.total_seconds() for t in trials if t.state.is_finished() and t.duration)
    text = _PAGE.format(
        title=html.escape(f"Sweep {study.study_name}"),
        script=get_plotlyjs(),
        summary=html.escape(f"{len(trials)} trials ({counts}), {spent / 3600:.2f} hours of training"),
        best="\n".join(f"<h2>{html.escape(h)}</h2><pre>{html.escape(text)}</pre>" for h, text in best),
        charts="\n".join(_charts(study, objective)) if complete else "<p>No trial is complete yet.</p>",
        table=_table(study, trials, objective, file.parent),
    )
    write_whole(file, lambda aside: aside.write_text(text, encoding="utf-8"))


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or those of the Pareto front; none where none is complete."""
    try:
        return study.best_trials if len(study.directions) > 1 else [study.best_trial]
    except ValueError:
        return []


def importances(study: optuna.Study, value: int) -> dict[str, float]:
    """How much each key decides one of the values, adding up to 1; empty where too few trials tell."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return optuna.importance.get_param_importances(study, target=_lower_is_better(study, value))
    except (ValueError, RuntimeError):
        return {}


def _lower_is_better(study: optuna.Study, value: int) -> Callable[[FrozenTrial], float] | None:
    """One of several values as Optuna's measure of importance wants it; of a single one it knows the way."""
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
        if len(objective) > 1:  # where there is one, Optuna draws the best so far if it isn't told which
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
    with warnings.catch_warnings(action="ignore"):  # of what is experimental
        figure = plot(study, **settings)
    figure.update_layout(title=None, margin={"t": 30}, width=None)
    yield f"<h2>{html.escape(heading)}</h2>"
    yield figure.to_html(full_html=False, include_plotlyjs=False)


def _table(study: optuna.Study, trials: Sequence[FrozenTrial], objective: Sequence[str], folder: Path) -> str:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    best = {trial.number for trial in best_trials(study)}
    head = ["trial", "state", *objective, *names, "epochs", "seconds", "error"]
    rows = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    for trial in trials:
        number = str(trial.number)
        if (folder / f"trial_{number}").is_dir():
            number = f'<a href="trial_{number}/">{number}</a>'
        values = [*(trial.values or []), *[None] * len(objective)][: len(objective)]
        cells = [
            trial.state.name.lower(),
            *(_cell(value) for value in values),
            *(_cell(trial.params.get(name)) for name in names),
            _cell(trial.user_attrs.get(EPOCHS)),
            f"{trial.duration.total_seconds():.0f}" if trial.duration else "",
        ]
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        error = html.escape(str(trial.user_attrs.get(ERROR, "")))
        kind = ' class="best"' if trial.number in best else ""
        rows.append(f'<tr{kind}><td>{number}</td>{row}<td class="error">{error}</td></tr>')
    return "<table>" + "\n".join(rows) + "</table>"


def _cell(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)
