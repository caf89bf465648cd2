"""The words of `autocaption serve`."""

import argparse
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(
        prog="autocaption serve",
        description="Serve a checkpoint: a page, an HTTP API, and metrics for Prometheus.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add: Any = made.add_argument
    add("--checkpoint", type=Path, required=True, help="a file of a run's checkpoints/, or an export")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    add("--port", type=int, default=8000, help="0 for any that is free")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto")
    add("--precision", default=None, help="as the Trainer's, such as bf16-mixed")
    add("--max-megabytes", type=float, default=10, help="of an uploaded file")
    add("--max-megapixels", type=float, default=50, help="of a picture")
    add("--queue", type=int, default=64, help="requests in work at a time; others are told to come again")
    add("--batch-size", type=int, default=16, help="pictures captioned together; 1 for no batches")
    add("--batch-window", type=float, default=4, help="milliseconds that a picture waits for others")
    add("--timeout", type=float, default=30, help="seconds for an upload, and for its captions")
    return made
