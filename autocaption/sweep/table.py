"""The sweep on the terminal."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from autocaption.sweep.study import EPOCHS, ERROR, INTERRUPTED, best_trials, parameter_names


class SweepTable:
    """A live table of the trials; not on a terminal, a line whenever a trial changes its state.

    Args:
        study: the study.
        objective: the names of its values.
        total: how many trials the sweep has.
        jobs: how many run at a time.
        console: where to write.
    """

    def __init__(
        self, study: optuna.Study, objective: Sequence[str], total: int, jobs: int, console: Console
    ) -> None:
        self.study, self.objective = study, objective
        self.total, self.jobs, self.console = total, jobs, console
        self._live: Live | None = None
        self._states: dict[int, TrialState] = {}

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table in this context; its last state stays on the screen."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False) as self._live:
            yield
            self.update()

    def update(self) -> None:
        """Show the trials as they are now."""
        trials = self.study.get_trials(deepcopy=False)
        if self._live is not None:
            self._live.update(self._table(trials), refresh=True)
            return
        for trial in trials:
            before = self._states.get(trial.number)
            if before != trial.state and (before is not None or trial.state is not TrialState.WAITING):
                self.console.print(self._line(trial), soft_wrap=True, highlight=False, markup=False)
            self._states[trial.number] = trial.state

    def remaining(self, trials: Sequence[FrozenTrial]) -> float | None:
        """Seconds until the sweep ends, estimated from the mean duration of the finished trials."""
        durations = [t.duration.total_seconds() for t in trials if t.state.is_finished() and t.duration]
        if not durations:
            return None
        left = self.total - len(durations)
        return max(0, left) * sum(durations) / len(durations) / self.jobs

    def _table(self, trials: Sequence[FrozenTrial]) -> Table:
        best = {trial.number for trial in best_trials(self.study)}
        names = parameter_names(trials)
        table = Table("trial", "state", *self.objective, *(_short(name) for name in names), "epochs", "time")
        for trial in trials[-max(5, self.console.height - 8) :]:
            table.add_row(
                f"{trial.number}{' *' if trial.number in best else ''}",
                state_of(trial),
                *self._values(trial),
                *(_number(trial.params.get(name)) for name in names),
                str(trial.user_attrs.get(EPOCHS, "")),
                _clock(trial.duration.total_seconds() if trial.duration else None),
                style="bold" if trial.number in best else None,
            )
        finished = sum(trial.state.is_finished() for trial in trials)
        time_left = _clock(self.remaining(trials)) or "unknown"
        table.caption = f"{finished} of {self.total} finished; time left: {time_left}"
        return table

    def _line(self, trial: FrozenTrial) -> str:
        params = "  ".join(f"{_short(name)} {_number(value)}" for name, value in trial.params.items())
        values = "  ".join(self._values(trial))
        parts = [f"{time.strftime('%H:%M:%S')}  trial {trial.number}", state_of(trial), values, params]
        error = f"  ({trial.user_attrs[ERROR]})" if ERROR in trial.user_attrs else ""
        return "  ".join(part for part in parts if part) + error

    def _values(self, trial: FrozenTrial) -> list[str]:
        if trial.values is not None:
            return [_number(value) for value in trial.values]
        reported = trial.intermediate_values
        return [_number(reported[max(reported)]) if reported else ""] + [""] * (len(self.objective) - 1)


def state_of(trial: FrozenTrial) -> str:
    """A trial's state as users see it."""
    if trial.state is TrialState.WAITING and INTERRUPTED in trial.user_attrs:
        return "interrupted"
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
