"""Starts sweeps as a user does."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import optuna

from helpers import ROOT
from helpers.quick_trial import height

__all__ = ["SEARCH", "SPACE", "SPY", "TINY", "Sweeps", "epochs", "height", "wait_for"]
SEARCH = [
    *("sweep=default", "optimizer.lr=interval(0.001,0.05)", "model.decoder.dropout=interval(0.0,0.5)"),
    *("logger=csv", "trainer.max_epochs=4"),
]

# Of real trials.
TINY = [
    *("data.source.train=24", "data.source.val=7", "data.source.test=9", "data.batch_size=8"),
    *("tokenizer.min_count=1", "model.encoder.width=4", "model.encoder.out_dim=16"),
    *("model.decoder.embed_dim=16", "model.decoder.hidden_dim=16", "search.max_length=8"),
]
SPACE = [
    "sweep=default",
    "optimizer.lr=interval(1e-3,1e-2)",
    "sweep.objective=val/loss",
    "sweep.direction=minimize",
]
SPY = "+callbacks.spy={_target_: spy.Spy, folder: '${run_dir}'}"


def wait_for(condition, seconds=60):
    """Poll until the condition holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def epochs(notes):
    """The epochs that the processes of a quick trial ran, in order."""
    return [int(line.split()[1]) for line in notes if line.startswith("epoch")]


class Sweeps:
    """Starts sweeps of quick trials in a folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        # Beside `conf`, as train.py is.
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

    def start(self, *words, script="quick.py", faults="{}", multirun=True):
        """A sweeper's process."""
        process = subprocess.Popen(
            [sys.executable, self.folder / script, *(["-m"] if multirun else []), *words],
            cwd=self.folder,
            env=self.environment | {"QUICK_FAULTS": faults},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words, timeout=240, **settings):
        """A sweep from start to end: exit code, stdout, stderr."""
        process = self.start(*words, **settings)
        out, err = process.communicate(timeout=timeout)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    def report(self, study):
        """The command that writes a sweep's report."""
        command = [sys.executable, "-m", "autocaption.sweep", "report", study]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def study(self, name="sweep", storage=None):
        """What the storage holds."""
        storage = storage or f"sqlite:///{self.folder}/runs/sweeps/{name}/study.db"
        return optuna.load_study(study_name=name, storage=storage)

    def trial(self, number, name="sweep"):
        """The folder of a trial."""
        return self.folder / f"runs/sweeps/{name}/trial_{number}"

    def notes(self, number, name="sweep"):
        """What the trial's processes wrote down."""
        file = self.trial(number, name) / "notes.txt"
        return file.read_text().splitlines() if file.exists() else []
