"""Trials as jobs of a Hydra launcher, such as `hydra/launcher=joblib`, or of Slurm (`submitit_slurm`).

The launcher runs `run_job`, not the training. Where the job runs, `run_job` starts the trial's process as a
local sweep does, and lasts as long as the process. A Slurm job runs this module, which does the same.
"""

import contextlib
import json
import signal
import sys
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

from autocaption.errors import UserError
from autocaption.files import lock, write_private_json
from autocaption.launch.cluster import Queue, SlurmJob, Task, submit
from autocaption.launch.devices import reserved, visible_gpus
from autocaption.launch.process import Process
from autocaption.launch.signals import stopped_by_signals
from autocaption.runs.folder import newest_checkpoint
from autocaption.runs.provenance import holds_secret
from autocaption.sweep.claims import Claim
from autocaption.sweep.patience import Patience
from autocaption.sweep.reporter import StudyReporter, stopping_signal
from autocaption.sweep.storage import STORAGE_ERRORS, open_storage
from autocaption.sweep.trials import Prepared

# In the trial's folder. It is kept until the job has ended: a scheduler may start the job again.
JOB_FILE = ".handed_{attempt}.json"
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class JobSettings:
    """What the jobs of a sweep have in common.

    Attributes:
        script: path of train.py.
        storage: URL of the study's storage.
        study: the study's name.
        pruner: configuration of the Optuna pruner.
        heartbeat: seconds between two heartbeats.
        storage_timeout: seconds to wait for a storage that doesn't answer.
    """

    script: str
    storage: str
    study: str
    pruner: Mapping[str, Any]
    heartbeat: float
    storage_timeout: float


def write_job(prepared: Prepared, claim: Claim, settings: JobSettings) -> None:
    """Write the file that `run_job` reads; it may hold secrets, so only the user can read it."""
    job = {
        "overrides": prepared.overrides,
        "config": prepared.config,
        "number": claim.number,
        "attempt": claim.attempt,
        "settings": asdict(settings),
    }
    for earlier in claim.folder.glob(JOB_FILE.format(attempt="*")):
        earlier.unlink()  # its job was killed
    write_private_json(claim.folder / JOB_FILE.format(attempt=claim.attempt), job)


def run_job(config: Any) -> int:
    """The task of a launcher's job: runs the trial in whose folder the job runs; returns its exit code."""
    return run_attempt(Path(HydraConfig.get().runtime.output_dir), config.attempt)


def run_attempt(folder: Path, attempt: int) -> int:
    """Run a trial as it was handed over; returns its exit code.

    A job that is started again runs it again, from the newest checkpoint.
    """
    file = folder / JOB_FILE.format(attempt=attempt)
    if not file.exists():
        return 0  # the trial has had another attempt, or this one has ended
    job = json.loads(file.read_text())
    settings = JobSettings(**job["settings"])
    patience = Patience(settings.storage_timeout, lambda line: print(line, file=sys.stderr))
    reporter = patience.insist(lambda: _reporter(settings, job["number"], job["attempt"]))
    with open(folder / ".lock", "a") as held:
        lock(held)  # waits for an earlier attempt that is about to end
        code = 0
        if patience.insist(reporter.is_current):
            # Where it resumes is known only now: the job may have waited, and may be a second start.
            checkpoint = newest_checkpoint(folder.absolute())
            config = {**job["config"], "resume": checkpoint and str(checkpoint)}
            trainer = config["trainer"]
            with reserved(visible_gpus(), trainer["accelerator"], trainer["devices"]) as (gpus, gpu_locks):
                process = Process(
                    settings.script,
                    job["overrides"],
                    config,
                    folder,
                    reporter,
                    gpus,
                    [held.fileno(), *gpu_locks],
                )
            code = _wait(process, reporter, settings.heartbeat, patience)
        if not stopping_signal(code) or not patience.insist(reporter.is_current):
            file.unlink(missing_ok=True)
        return code


def _reporter(settings: JobSettings, number: int, attempt: int) -> StudyReporter:
    storage, pruner = open_storage(settings.storage), instantiate(settings.pruner)
    study = optuna.load_study(study_name=settings.study, storage=storage.backend, pruner=pruner)
    return StudyReporter(storage, study, number, attempt)


def _wait(process: Process, reporter: StudyReporter, heartbeat: float, patience: Patience) -> int:
    """Send heartbeats until the process ends; interrupt it if the trial is no longer this attempt's."""
    next_heartbeat = time.monotonic()
    try:
        while (code := patience.insist(process.poll)) is None:
            time.sleep(POLL_SECONDS)
            if time.monotonic() < next_heartbeat:
                continue
            next_heartbeat += heartbeat
            if patience.insist(reporter.is_current):
                patience.insist(reporter.send_heartbeat)
            else:
                process.interrupt()
        return code
    except BaseException:  # the launcher ends the job, as before a time limit, or the storage is gone
        _end(process)
        raise


def _end(process: Process) -> None:
    """Let the process save a checkpoint and end, though nobody may answer its reports any more."""
    process.interrupt(signal.SIGTERM)
    with contextlib.suppress(*STORAGE_ERRORS):
        while process.poll() is None:
            time.sleep(POLL_SECONDS)


def submit_trial(claim: Claim, settings: Mapping[str, Any], queue: Queue) -> SlurmJob:
    """Start a trial as a Slurm job of one task, which starts the trial's devices itself.

    Args:
        claim: the trial.
        settings: `hydra.launcher` of the trial.
        queue: watches the job.

    Raises:
        UserError: it asks for more than one machine, or Slurm refuses it.
    """
    if settings.get("nodes", 1) != 1:
        raise UserError("a trial runs on one machine; set trainer.num_nodes=1")
    claim.lock.close()  # the job locks the folder
    folder = str(claim.folder.absolute())
    command = [sys.executable, "-m", __name__, folder, str(claim.attempt)]
    return submit([Task(command, folder, {})], {**settings, "tasks_per_node": 1}, queue)[0]


def main() -> None:
    """Run the trial in a folder (the first argument) as its attempt (the second) was handed over."""
    with stopped_by_signals():
        code = run_attempt(Path(sys.argv[1]), int(sys.argv[2]))
    sys.exit(code if code >= 0 else 128 - code)


class LaunchedTrial:
    """A trial as a launcher's job. Launching blocks until the job ends, so it runs in a thread.

    Args:
        launcher: the Hydra launcher.
        claim: the trial.
        overrides: the trial's overrides, after which the launcher may name the job.
    """

    def __init__(self, launcher: Launcher, claim: Claim, overrides: list[str]) -> None:
        self._code: int | None = None
        claim.lock.close()  # the job locks the folder
        folder = [f"hydra.sweep.dir={claim.folder.parent}", f"hydra.sweep.subdir={claim.folder.name}"]
        folder.append(f"+attempt={claim.attempt}")

        def launch() -> Any:
            # Its configuration is in the job's file; here overrides are but names, which launchers print.
            named = [one for one in overrides if not holds_secret(one)]
            (returned,) = launcher.launch([[*named, *folder]], claim.number)
            return returned.return_value

        threading.Thread(target=self._run, args=(launch, claim.folder, claim.attempt), daemon=True).start()

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative if the job was lost."""
        return self._code

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Stop waiting: the job ends by itself when it sees that its trial was released."""
        self._code = -signal.SIGINT

    def kill(self) -> None:
        """Nothing beyond `interrupt`: the launcher offers no way to kill a job."""

    def _run(self, launch: Callable[[], int], folder: Path, attempt: int) -> None:
        try:
            code = launch()
        except BaseException as error:  # time limit reached, node lost, or the job's SystemExit
            line = str(error).strip().splitlines()[-1:]
            with open(folder / "stderr.log", "a") as file:
                print("the job was lost:", *line, file=file)
            code = -signal.SIGKILL
        # The launcher won't start the job again; another sweeper may have handed over the next attempt.
        (folder / JOB_FILE.format(attempt=attempt)).unlink(missing_ok=True)
        if self._code is None:
            self._code = code


if __name__ == "__main__":
    main()
