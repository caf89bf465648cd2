import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

ROOT = Path(__file__).parents[2]
SEARCH = ["sweep=default", "optimizer.lr=interval(0.001,0.05)", "model.decoder.dropout=interval(0.0,0.5)"]


def wait_for(condition, seconds=60):
    """Poll until the condition holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class Sweeps:
    """Starts sweeps of quick trials in a folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        # Beside `conf`, as train.py is.
        (folder / "conf").symlink_to(ROOT / "conf")
        (folder / "quick.py").write_text((ROOT / "tests/sweep/quick.py").read_text())

    def start(self, *words, script=None, faults="{}", **environment):
        """A sweeper's process."""
        process = subprocess.Popen(
            [sys.executable, str(script or self.folder / "quick.py"), "-m", *words],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "WANDB_MODE": "offline",
                "OMP_NUM_THREADS": "1",
                "QUICK_FAULTS": faults,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words, **settings):
        """A sweep from start to end: exit code, stdout, stderr."""
        process = self.start(*words, **settings)
        out, err = process.communicate(timeout=240)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

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


@pytest.fixture
def sweeps(tmp_path):
    made = Sweeps(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


@pytest.fixture
def search():
    return list(SEARCH)
