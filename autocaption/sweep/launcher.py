"""Trials as jobs of a Hydra launcher: `hydra/launcher=submitit_slurm`, `joblib` and their like.

What the launcher gets to run is not the training but a small function that starts the trial's process
where the job runs, just as a sweep without a launcher does, and lives as long as it does.
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

HANDED = ".handed_{attempt}.json"  # for the job alone, in the trial's folder, and gone when it was read
TICK = 0.1  # seconds between two looks at the process


@dataclass(frozen=True)
class Assignment:
    """Where a job finds its study, and how it behaves towards it.

    Attributes:
        script: train.py.
        storage: URL of the study's storage.
        study: its name.
        pruner: configuration of Optuna's.
        heartbeat: seconds between two signs of life.
    """

    script: str
    storage: str
    study: str
    pruner: Mapping[str, Any]
    heartbeat: float


def hand_over(prepared: Prepared, claim: Claim, assignment: Assignment) -> None:
    """Leave in the trial's folder what its job needs; it may hold secrets, so only its owner can read it."""
    handed = {
        "words": prepared.words,
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
    """The task of a launcher's job: run the trial whose folder is the job's; returns its exit code."""
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
        fcntl.flock(lock, fcntl.LOCK_EX)  # of an earlier attempt that is about to end
        if not reporter.is_current():
            return 0
        keep = [lock.fileno()]
        process = Process(assignment.script, handed["words"], handed["config"], folder, reporter, {}, keep)
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
    """A job of a launcher; its launch blocks, so a thread waits for it.

    Args:
        launcher: Hydra's.
        claim: the trial.
        overrides: of the job, so that the launcher can name them.
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

    def interrupt(self) -> None:
        """Leave it: the job ends by itself when it sees that its trial was given back."""
        self._code = -signal.SIGINT

    def kill(self) -> None:
        """Likewise."""

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
