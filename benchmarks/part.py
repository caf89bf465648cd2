"""Run one part in its own process: `python -m benchmarks.part NAME` prints a line of JSON last."""

import importlib
import json
import logging
import os
import sys
import warnings

from benchmarks.memory import peak_megabytes


def quieten() -> None:
    """Keep log messages and warnings away from the metrics."""
    os.environ.setdefault("WANDB_MODE", "offline")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)


if __name__ == "__main__":
    quieten()
    metrics = importlib.import_module(f"benchmarks.{sys.argv[1]}").measure()
    print(json.dumps({**metrics, "peak MB": peak_megabytes()}))
