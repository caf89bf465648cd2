"""Runs the two commands as a user does, on tiny built-in data."""

import json
import os
import subprocess
import sys

from helpers import ROOT

TINY = [
    "data.source.train=24",
    "data.source.val=7",
    "data.source.test=9",
    "data.batch_size=8",
    "tokenizer.min_count=1",
    "model.encoder.width=4",
    "model.encoder.out_dim=16",
    "model.decoder.embed_dim=16",
    "model.decoder.hidden_dim=16",
    "search.max_length=8",
    "trainer.max_epochs=2",
]


def run(command, *words, cwd, **environment):
    environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, ROOT / command, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def only_run(folder):
    (found,) = (entry for entry in (folder / "runs").iterdir() if entry.name != "multirun")
    return found


def read(file):
    return json.loads(file.read_text())
