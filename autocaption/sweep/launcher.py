"""Trials as jobs of a Hydra launcher: `hydra/launcher=submitit_slurm`, `joblib` and others.

The launcher's job is not the training but a small function that starts the trial's process where the job
runs, as a sweep without a launcher does, and waits for it.
"""

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate

from autocaption.launch.process import Process
from autocaption.sweep.claims import Claim
from autocaption.sweep.reporter import StudyReporter
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import JOB_HEARTBEAT
from autocaption.sweep.trials import Prepared

HANDED = ".handed_{attempt}.json"  # in the trial's folder; the job deletes it when it has read it
TICK = 0.1  # seconds between two looks at the process


@dataclass(frozen=True)
class Assignment:
    """What every job of a sweep has to know.

    Attributes:
        script: train.py.
        storage: the URL of the study's storage.
        study: the study's name.
        pruner: the pruner's configuration.
        heartbeat: seconds between two heartbeats.
    """

    script: str
    storage: str
    study: str
    pruner: Mapping[str, Any]
    heartbeat: float


def hand_over(prepared: Prepared, claim: Claim, assignment: Assignment) -> None:
    """Write what the job needs to the trial's folder, readable by its owner only: it may hold secrets."""
    handed = {
        "overrides": prepared.overrides,
        "config": prepared.config,
        "number": claim.number,
        "attempt": claim.attempt,
        "assignment": asdict(assignment),
    }
    file_name = claim.folder / HANDED.format(attempt=claim.attempt)
    descriptor = os.open(file_name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(handed, file)


def run_job(config: Any) -> int:
    """The job: run the trial whose folder is the job's; returns its exit code."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    file = folder / HANDED.format(attempt=config.attempt)
    handed = json.loads(file.read_text())
    file.unlink()
    assignment = Assignment(**handed["assignment"])
    study = optuna.load_study(
        study_name=assignment.study,
        storage=open_storage(assignment.storage).studies,
        pruner=instantiate(assignment.pruner),
    )
    reporter = StudyReporter(study, handed["number"], handed["attempt"])
    with open(folder / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier attempt may still be ending
        if not reporter.is_current():
            return 0
        keep = [lock.fileno()]
        process = Process(
            assignment.script, handed["overrides"], handed["config"], folder, reporter, {}, keep
        )
        return _accompany(process, reporter, assignment.heartbeat)


def _accompany(process: Process, reporter: StudyReporter, heartbeat: float) -> int:
    next_beat = time.monotonic()
    while (code := process.poll()) is None:
        time.sleep(TICK)
        if time.monotonic() < next_beat:
            continue
        next_beat += heartbeat
        if reporter.is_current():
            reporter.storage.set_trial_user_attr(reporter.trial_id, JOB_HEARTBEAT, time.time())
        else:
            process.interrupt()
    return code


class LaunchedTrial:
    """A job of a launcher; launching blocks, so a thread does it.

    Args:
        launcher: Hydra's launcher.
        claim: the trial.
        overrides: the job's overrides, so that the launcher can name them.
    """

    def __init__(self, launcher: Launcher, claim: Claim, overrides: list[str]) -> None:
        self._code: int | None = None
        claim.lock.close()  # the job takes it
        folder = [f"hydra.sweep.dir={claim.folder.parent}", f"hydra.sweep.subdir={claim.folder.name}"]
        folder.append(f"+attempt={claim.attempt}")

        def launch() -> Any:
            (returned,) = launcher.launch([[*overrides, *folder]], claim.number)
            return returned.return_value

        threading.Thread(target=self._run, args=(launch, claim.folder), daemon=True).start()

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative where the job was lost."""
        return self._code

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Stop waiting: the job ends by itself when it sees that its trial was released."""
        self._code = -signal.SIGINT

    def kill(self) -> None:
        """Nothing more than `interrupt`."""

    def _run(self, launch: Callable[[], int], folder: Path) -> None:
        try:
            code = launch()
        except Exception as error:  # the launcher's: out of time, node lost
            line = str(error).strip().splitlines()[-1:]
            with open(folder / "stderr.log", "a") as file:
                print("the job was lost:", *line, file=file)
            code = -signal.SIGKILL
        if self._code is None:
            self._code = code
