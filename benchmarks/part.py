"""Run one part in its own process: `python -m benchmarks.part NAME` prints a line of JSON last."""

import importlib
import json
import logging
import os
import sys
import warnings

from autocaption.exits import one_line_errors
from autocaption.machine import keep_freed_memory
from benchmarks.memory import peak_megabytes


def quieten() -> None:
    """Keep log messages and warnings away from the metrics."""
    os.environ.setdefault("WANDB_MODE", "offline")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)


def main() -> None:
    """Measure the part that the command line names."""
    quieten()
    keep_freed_memory()  # as the commands do
    metrics = importlib.import_module(f"benchmarks.{sys.argv[1]}").measure()
    print(json.dumps({**metrics, "peak MB": peak_megabytes()}))


if __name__ == "__main__":
    one_line_errors(main)
