"""Run one part in a process of its own: `python -m benchmarks.part NAME` ends with a line of JSON."""

import importlib
import json
import logging
import os
import sys
import warnings

from benchmarks.memory import peak_megabytes

if __name__ == "__main__":
    os.environ.setdefault("WANDB_MODE", "offline")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    figures = importlib.import_module(f"benchmarks.{sys.argv[1]}").measure()
    print(json.dumps({**figures, "peak MB": peak_megabytes()}))
