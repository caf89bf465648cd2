"""What a sweep costs a trial beyond the trial's own work: claim, draw, compose, start, report, tell."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRIALS = 12
SEARCH = ("sweep=show_and_tell", f"sweep.n_trials={TRIALS}", "logger=csv", "sweep/pruner=none")
# Notes when it began and ended, and how long it took to report to the sweep.
TRIAL = """
import time
begin = time.time()
import json
from pathlib import Path
from hydra.utils import instantiate
from autocaption.cli import command

def main(config):
    clock = time.perf_counter()
    instantiate(config.callbacks.sweep.reporter).report(1, 0.5, last=True)
    reporting = time.perf_counter() - clock
    folder = Path(config.run_dir)
    (folder / "metrics.json").write_text(json.dumps({"val/bleu4": 0.5}))
    (folder / "times.json").write_text(json.dumps([begin, time.time(), reporting]))

command(main, "train")
"""


def measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trial.py").write_text(TRIAL)
        (Path(folder) / "conf").symlink_to(ROOT / "conf")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "trial.py", "-m", *SEARCH]
        subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
        files = [Path(folder) / f"runs/sweeps/show_and_tell/trial_{n}/times.json" for n in range(TRIALS)]
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
