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
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from optuna.trial import TrialState

from autocaption.sweep.claims import ATTEMPT, Claim
from autocaption.sweep.process import TrialProcess
from autocaption.sweep.storage import open_storage
from autocaption.sweep.trials import Prepared

HANDED = ".handed_{attempt}.json"  # for the job alone, in the trial's folder, and gone when it was read
BEAT = "beat"  # our attribute of a trial: the job's sign of life


def hand_over(prepared: Prepared, script: str, heartbeat: float, claim: Claim) -> None:
    """Leave in the trial's folder what its job needs; it may hold secrets, so only its owner can read it."""
    text = json.dumps(
        {"script": script, "words": prepared.words, "config": prepared.config, "heartbeat": heartbeat}
    )
    file_name = claim.folder / HANDED.format(attempt=claim.attempt)
    descriptor = os.open(file_name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def run_job(config: Any) -> int:
    """The task of a launcher's job: run the trial whose folder is the job's; returns its exit code."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    file = folder / HANDED.format(attempt=config.attempt)
    handed = json.loads(file.read_text())
    file.unlink()
    judge = handed["config"]["callbacks"]["sweep"]["judge"]
    study = optuna.load_study(study_name=judge["study"], storage=open_storage(judge["storage"]).studies)
    with open(folder / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of an earlier attempt that is about to end
        if not _goes_on(study, judge):
            return 0
        process = TrialProcess(
            handed["script"], handed["words"], handed["config"], folder, {}, keep=[lock.fileno()]
        )
        return _accompany(process, study, judge, handed["heartbeat"])


def _accompany(process: TrialProcess, study: optuna.Study, judge: Mapping[str, Any], heartbeat: float) -> int:
    trial_id = study.trials[judge["number"]]._trial_id
    while (code := process.wait(heartbeat)) is None:
        if _goes_on(study, judge):
            study._storage.set_trial_user_attr(trial_id, BEAT, time.time())
        else:
            process.interrupt()
    return code


def _goes_on(study: optuna.Study, judge: Mapping[str, Any]) -> bool:
    """Whether this job's attempt is still the one that counts."""
    trial = study.trials[judge["number"]]
    return trial.state is TrialState.RUNNING and trial.user_attrs.get(ATTEMPT) == judge["attempt"]


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
        place = [f"hydra.sweep.dir={claim.folder.parent}", f"hydra.sweep.subdir={claim.folder.name}"]
        place.append(f"+attempt={claim.attempt}")
        launch: Callable[[], Any] = lambda: launcher.launch([[*overrides, *place]], claim.number)  # noqa: E731
        self._thread = threading.Thread(target=self._run, args=(launch, claim.folder), daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative where the job was lost."""
        return self._code

    def interrupt(self) -> None:
        """Leave it: the job ends by itself when it sees that its trial was given back."""
        self._code = -signal.SIGINT

    def kill(self) -> None:
        """Likewise."""

    def _run(self, launch: Callable[[], Any], folder: Path) -> None:
        try:
            (returned,) = launch()
            code = returned.return_value
        except Exception as error:  # the launcher's: out of time, node lost
            with open(folder / "stderr.log", "a") as file:
                print(f"the job was lost: {error}".splitlines()[-1], file=file)
            code = -signal.SIGKILL
        if self._code is None:
            self._code = code
