"""`make bench`: every part in turn, a table, and benchmarks/latest.json."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autocaption.files import write_json
from autocaption.runs.provenance import provenance

PARTS = ("training", "extraction", "search", "bleu", "startup", "growth", "sweeping", "transformer_beam")
# What a figure must reach: at least, or at most where it is a cost.
AT_LEAST = {
    "training: of the arithmetic limit": 0.60,
    "training: times images caption-major": 50,
    "training: times features caption-major": 1.2,
    "extraction: of the bare encoder": 0.95,
    "search: times image by image": 20,
    "transformer_beam: times recomputing": 5,
}
AT_MOST = {
    "training: padded share of the decoder's work": 0.10,
    "startup: seconds of --cfg job beyond hydra": 1.0,
    "sweeping: seconds a trial beyond its own": 1.0,
    "growth: shapes of 1,000,000 captions: seconds to the first step": 30,
    "growth: shapes of 1,000,000 captions: peak MB": 3000,
}
FILE = Path(__file__).with_name("latest.json")


def run(part: str) -> dict[str, float]:
    """The figures of a part; its process's messages pass through."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.part", part], check=True, stdout=subprocess.PIPE, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    return {f"{part}: {name}": value for name, value in figures.items()}


def processor() -> str:
    """Its name, where /proc tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def bar(name: str, value: float) -> str:
    """How a figure stands to what it must reach; empty where it need reach nothing."""
    if name in AT_LEAST:
        return f"{'reaches' if value >= AT_LEAST[name] else 'MISSES'} >= {AT_LEAST[name]}"
    if name in AT_MOST:
        return f"{'reaches' if value <= AT_MOST[name] else 'MISSES'} <= {AT_MOST[name]}"
    return ""


def main() -> None:
    """Measure, print, write."""
    console, figures = Console(), {}
    for part in sys.argv[1:] or PARTS:
        start = time.perf_counter()
        figures |= run(part)
        console.print(f"{part}: {time.perf_counter() - start:.0f} s", highlight=False)
    table = Table("figure", "value", "bar")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if value < 100 else f"{value:,.0f}", bar(name, value))
    console.print(table)
    if not sys.argv[1:]:
        start = provenance()
        write_json(
            FILE,
            {
                "figures": figures,
                "processor": processor(),
                "cores": os.cpu_count(),
                "git": start["git"],
                "packages": start["packages"],
            },
        )
        console.print(f"written to {FILE.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
