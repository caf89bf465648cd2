"""Starts sweeps as a user does, in processes."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import optuna

from helpers import PATIENCE, ROOT
from helpers.scripts import run_here

# The search of sweeps with quick trials.
SEARCH = [
    *("sweep=default", "optimizer.lr=interval(0.001,0.05)", "model.decoder.dropout=interval(0.0,0.5)"),
    *("logger=csv", "trainer.max_epochs=4"),
]
# A pruner that prunes every trial after its second epoch.
PRUNE_AFTER_TWO = [
    *("sweep/pruner=none", "sweep.pruner._target_=optuna.pruners.ThresholdPruner"),
    *("+sweep.pruner.lower=1000", "+sweep.pruner.n_warmup_steps=2"),
]
# The search of sweeps with real trials.
SPACE = [
    "sweep=default",
    "optimizer.lr=interval(1e-3,1e-2)",
    "sweep.objective=val/loss",
    "sweep.direction=minimize",
]
SPY = "+callbacks.spy={_target_: spy.Spy, folder: '${run_dir}'}"


def wait_for(condition, seconds=PATIENCE):
    """Poll until the condition is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return found


def gpus(notes):
    """The GPUs that a quick trial used."""
    return [line.split()[1] for line in notes if line.startswith("gpu")]


def epochs(notes):
    """The epochs that a quick trial's processes ran, in order."""
    return [int(line.split()[1]) for line in notes if line.startswith("epoch")]


class Threshold:
    """A reporter that prunes below a half, and keeps what was reported."""

    def __init__(self):
        self.reported = []

    def report(self, epoch, value, last):
        self.reported.append((epoch, value, last))
        return value < 0.5


class Sweeps:
    """Starts sweeps in a folder, by default with quick trials (quick_trial.py)."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        # The scripts lie beside `conf`, as train.py does.
        (folder / "conf").symlink_to(ROOT / "conf")
        (folder / "quick.py").write_text((ROOT / "tests/helpers/quick_trial.py").read_text())
        (folder / "train.py").write_text((ROOT / "train.py").read_text())
        (folder / "spy.py").write_text((ROOT / "tests/helpers/spy.py").read_text())
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{folder}",
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *overrides, script="quick.py", faults="{}", multirun=True):
        """Start a sweep's process.

        Args:
            overrides: its command line.
            script: the quick trials' script or train.py.
            faults: JSON of what goes wrong, by trial number (quick_trial.py).
            multirun: whether to add -m.
        """
        process = subprocess.Popen(
            [sys.executable, self.folder / script, *(["-m"] if multirun else []), *overrides],
            cwd=self.folder,
            env=self.environment | {"QUICK_FAULTS": faults},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *overrides, timeout=PATIENCE, **settings):
        """Run a sweep to its end; returns exit code, stdout and stderr."""
        process = self.start(*overrides, **settings)
        out, err = process.communicate(timeout=timeout)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    def report(self, study):
        """Run the command that writes a sweep's report."""
        return run_here("-m", "autocaption.sweep", "report", study, cwd=self.folder)

    def study(self, name="sweep", storage=None):
        """The study in a sweep's storage."""
        storage = storage or f"sqlite:///{self.folder}/runs/sweeps/{name}/study.db"
        return optuna.load_study(study_name=name, storage=storage)

    def trial(self, number, name="sweep"):
        """A trial's run folder."""
        return self.folder / f"runs/sweeps/{name}/trial_{number}"

    def notes(self, number, name="sweep"):
        """The lines that a quick trial's processes wrote."""
        file = self.trial(number, name) / "notes.txt"
        return file.read_text().splitlines() if file.exists() else []
