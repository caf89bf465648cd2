"""Run one part in a process of its own: `python -m benchmarks.part NAME` ends with a line of JSON."""

import importlib
import json
import logging
import os
import sys
import warnings

from benchmarks.memory import peak_megabytes


def quieten() -> None:
    """Leave the figures alone on the screen."""
    os.environ.setdefault("WANDB_MODE", "offline")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)


if __name__ == "__main__":
    quieten()
    figures = importlib.import_module(f"benchmarks.{sys.argv[1]}").measure()
    print(json.dumps({**figures, "peak MB": peak_megabytes()}))
