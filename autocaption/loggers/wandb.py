"""Weights & Biases as a logger."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import loggers
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from autocaption.errors import UserError
from autocaption.loggers.wandb_mode import Mode, choose_mode
from autocaption.runs.provenance import command_line
from autocaption.runs.record import PREEMPTED, read
from autocaption.runs.run import STOPPED
from autocaption.runs.source_code import kept_code

log = logging.getLogger(__name__)

FLUSH = 0.05  # seconds after which what was logged is in the .wandb file
FINISH = 120.0  # seconds that the end of a run waits for a server that is slow or gone
OUT_OF_REACH = re.compile(r"timed? ?out", re.IGNORECASE)  # wandb retries until then; else it was refused


class WandbLogger(loggers.WandbLogger):
    """Lightning's, with the trainer's steps as W&B's, so that a resumed run goes on where it was.

    A row of W&B's history holds all that is logged at a step, and is written once a later step is logged, or
    at `commit`. What a resumed run logs again and the server has already is left out.

    Args:
        folder: the run folder; all of W&B's files lie in its `wandb/`.
        mode: see `choose_mode`.
        offline: see `choose_mode`.
        api_key: instead of WANDB_API_KEY or `wandb login`.
        minimize: the validation metrics whose best value is the lowest.
        log_model: `true` for the best checkpoint as an artifact, `all` for each, `false` for none.
        settings: of wandb.Settings.
        others: passed on to wandb.init, such as id, name, entity, group, tags, notes.
    """

    def __init__(
        self,
        folder: str,
        mode: str | None = None,
        offline: bool = False,
        api_key: str | None = None,
        minimize: Sequence[str] = (),
        log_model: bool | Literal["all"] = False,
        settings: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        # Files are copied only where training goes on and replaces them.
        policy: Any = "mutable" if log_model == "all" else "immutable"
        super().__init__(save_dir=folder, log_model=log_model, add_file_policy=policy, **others)
        self.folder, self.minimize = Path(folder), tuple(minimize)
        self._mode, self._offline_asked, self._api_key = mode, offline, api_key
        self._settings = dict(settings or {})
        self._known = self._next = 0  # steps below are on the server already; W&B takes none below this one
        self._pending, self._defined = False, set[str]()
        self._is_gone = False  # W&B's process

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, started on first use.

        Raises:
            UserError: W&B refuses what is configured.
        """
        if self._experiment is None:
            self._experiment = self._start()
            if self._known:
                log.info("W&B has this run up to step %d, and takes no step twice", self._known - 1)
            if code := kept_code(self.folder):
                self._log_artifact("code", code)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add to the row of a step; None for the current one."""
        if not self._is_gone:
            with self._outlived():
                self._log(metrics, step)

    def _log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        run = self.experiment
        step = self._next if step is None else step
        if step < self._known - 1:
            return
        for name, value in metrics.items():
            if name.startswith("val/") and name not in self._defined and isinstance(value, int | float):
                run.define_metric(name, summary="last,min" if name in self.minimize else "last,max")
                self._defined.add(name)
        if step == self._next - 1:  # what comes after a commit of its step belongs to the next row
            step = self._next
        run.log(dict(metrics), step=step)
        self._next, self._pending = max(step, self._next), True

    @rank_zero_only
    def commit(self) -> None:
        """Write the row of the current step; a checkpoint that is saved next doesn't log it again."""
        if self._pending and not self._is_gone:
            with self._outlived():
                self.experiment.log({}, step=self._next, commit=True)
                self._next, self._pending = self._next + 1, False

    @rank_zero_only
    def log_report(self, file: Path) -> None:
        """Log a report as an artifact, if it exists."""
        if file.is_file():
            self._log_artifact("report", file)

    @contextlib.contextmanager
    def _outlived(self) -> Iterator[None]:
        """Go on without W&B where its process has ended: Slurm's SIGTERM to a whole job ends it at once.

        The training has a step to finish then, and a checkpoint to save, from which W&B's run goes on.
        """
        try:
            yield
        except ConnectionError:
            self._is_gone = True
            log.warning("W&B's process has ended; what follows is logged to W&B once the run is resumed")

    def _log_artifact(self, kind: str, path: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self.experiment.id}", type=kind)
        add = artifact.add_dir if path.is_dir() else artifact.add_file
        add(str(path), policy="immutable")
        self.experiment.log_artifact(artifact)

    def _start(self) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ["WANDB_DATA_DIR"] = str((self.folder / "wandb").absolute())  # artifacts; else in the home
        import wandb

        try:
            mode, run = self._init()
        except (wandb.errors.Error, ValueError, TypeError) as error:
            raise UserError(
                f"W&B refuses to start: {_reason(error)}; change logger.wandb, or take logger=csv"
            ) from None
        self._known = self._next = run.starting_step
        if mode.name == "offline":
            log.info(
                "W&B: offline (%s); upload the run with: python -m autocaption.loggers.sync %s",
                *(mode.reason, self.folder),
            )
        elif mode.name == "online":
            log.info("W&B: %s", run.url)
        return run

    def _init(self) -> tuple[Mode, Any]:
        """Start the run, offline where the server turns out to be out of reach."""
        import wandb

        mode = choose_mode(self._mode, self._offline_asked, self._api_key)
        settings: dict[str, Any] = {"finish_timeout": FINISH, "x_transaction_log_flush_interval": FLUSH}
        settings |= {"reinit": "finish_previous", **self._settings}
        if self._api_key:
            settings["api_key"] = self._api_key
        arguments = {**self._wandb_init, "mode": mode.name, "settings": wandb.Settings(**settings)}
        arguments.pop("anonymous")  # Lightning (2.6) passes it, and wandb warns of it
        with _hidden_secrets():
            try:
                return mode, wandb.init(**arguments)
            except wandb.errors.CommError as error:
                if mode.name != "online" or not OUT_OF_REACH.search(str(error)):
                    raise
                wandb.teardown()  # it holds the run's id
                mode = Mode("offline", _reason(error))
                return mode, wandb.init(**{**arguments, "mode": mode.name})


@contextlib.contextmanager
def _hidden_secrets() -> Iterator[None]:
    """Within it, sys.argv is without secrets: W&B takes the command line that it records from there."""
    given = sys.argv
    sys.argv = command_line()
    try:
        yield
    finally:
        sys.argv = given


def _reason(error: Exception) -> str:
    """What an error of W&B says, in one line."""
    from pydantic import ValidationError  # of wandb.Settings; here, since other loggers need neither

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return " ".join(str(error).split()).rstrip(".")


def wandb_logger(folder: str, **settings: Any) -> WandbLogger:
    """The logger of a run, with the run's id (run.json) and the name of its folder unless others are given.

    So a resumed run goes on in the same W&B run, and a renamed folder doesn't become another.
    """
    record = read(Path(folder))
    return WandbLogger(folder, **{"id": record and record["id"], "name": Path(folder).name, **settings})


def close_wandb(exit_code: int) -> None:
    """End W&B's run, if there is one, as finished (0) or failed, or, where a signal stopped it, preempted."""
    if "wandb" not in sys.modules:
        return
    import wandb

    if wandb.run is not None:
        try:
            if STOPPED.get(exit_code) == PREEMPTED:
                wandb.run.mark_preempting()
            wandb.finish(exit_code=exit_code)
        except ConnectionError:  # a signal to the whole job has ended W&B's process
            with contextlib.suppress(ConnectionError):
                wandb.teardown()  # else it complains as Python exits
