"""What a sweep costs a trial beyond the trial's own work: claim, draw, compose, start, report, finish."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEARCH = ("sweep=show_and_tell", "trainer=cpu", "logger=csv", "sweep/pruner=none")


def measure(*, trials: int = 12) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(__file__).with_name("trial.py"), folder)
        (Path(folder) / "conf").symlink_to(ROOT / "conf")  # beside the script, as beside train.py
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "trial.py", "-m", *SEARCH, f"sweep.n_trials={trials}"]
        subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
        files = [Path(folder) / f"runs/sweeps/show_and_tell/trial_{n}/times.json" for n in range(trials)]
        times = [json.loads(file.read_text()) for file in files]
    between = [after[0] - before[1] for before, after in pairwise(times)]
    reporting = statistics.median(time[2] for time in times)
    return {
        "seconds between two trials": statistics.median(between),
        "seconds of a trial's first report": reporting,
        "seconds a trial beyond its own": statistics.median(between) + reporting,
    }


if __name__ == "__main__":
    print(measure())
