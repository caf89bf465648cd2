"""`make bench`: runs every part, prints a table and writes benchmarks/latest.json.

`python -m benchmarks PART [PART ...]` runs some parts and only prints.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.files import write_json
from autocaption.runs.provenance import provenance
from autocaption.runs.source_code import git_state

PARTS = (
    *("training", "limits", "extraction", "search", "bleu", "scoring", "startup", "growth", "sweeping"),
    *("transformer_beam", "search_limits", "hugging_face", "scale"),
)
# Bars: a metric must be at least this, or at most this where it is a cost.
AT_LEAST = {
    "training: of the arithmetic limit": 0.60,
    "limits: transformer: of the arithmetic limit": 0.7,
    "limits: lstm: of the arithmetic limit": 0.8,
    "training: times images caption-major": 50,
    "training: times features caption-major": 1.2,
    "extraction: of the bare encoder": 0.95,
    "bleu: times nltk": 4,
    "scoring: CIDEr-D captions/s, references cached": 10_000,
    "transformer_beam: times recomputing": 5,
    "transformer_beam: times recomputing at the default batch": 5,
    "search_limits: lstm: of the arithmetic limit": 0.8,
    "search_limits: transformer: of the arithmetic limit": 0.85,
    "search_limits: transformer: times in bf16": 1.6,
    "hugging_face: 32 images: times transformers, ours in bf16": 3.5,
    "hugging_face: 64 images: times transformers, ours in bf16": 3.5,
}
AT_MOST = {
    "training: padded share of the decoder's work": 0.10,
    "scoring: seconds of all metrics": 1.0,
    "scoring: seconds of the bootstrap intervals": 5.0,
    "scoring: seconds of a paired bootstrap": 5.0,
    "startup: seconds of --cfg job beyond hydra": 1.0,
    "sweeping: seconds a trial beyond its own": 1.0,
    "growth: shapes of 1,000,000 captions: seconds to the first step": 30,
    "growth: shapes of 1,000,000 captions: peak MB": 3000,
    "scale: CPU seconds to load": 10,
    "scale: MB to load": 1500,
    "scale: CPU seconds of a start with cached features": 3,
    "scale: workers after an epoch over before": 1.25,
}
FILE = Path(__file__).with_name("latest.json")


def run(part: str) -> dict[str, float]:
    """Measure a part in its own process; what it prints to stderr passes through.

    Raises:
        UserError: there is no such part, or it failed.
    """
    if part not in PARTS:
        raise UserError(f"no benchmark {part}; take some of: {', '.join(PARTS)}")
    done = subprocess.run([sys.executable, "-m", "benchmarks.part", part], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"the benchmark {part} failed; its own error is above, and nothing was written")
    metrics = json.loads(done.stdout.splitlines()[-1])
    return {f"{part}: {name}": value for name, value in metrics.items()}


def processor() -> str:
    """The processor's name, from /proc where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def bar(name: str, value: float) -> str:
    """Whether a metric reaches its bar; empty for a metric without one."""
    if name in AT_LEAST:
        return f"{'reaches' if value >= AT_LEAST[name] else 'MISSES'} >= {AT_LEAST[name]}"
    if name in AT_MOST:
        return f"{'reaches' if value <= AT_MOST[name] else 'MISSES'} <= {AT_MOST[name]}"
    return ""


def main() -> None:
    """Measure, print, and write the file if every part was measured."""
    console = Console()
    metrics: dict[str, float] = {}
    for part in sys.argv[1:] or PARTS:
        start = time.perf_counter()
        metrics |= run(part)
        console.print(f"{part}: {time.perf_counter() - start:.0f} s", highlight=False)
    table = Table("metric", "value", "bar")
    for name, value in metrics.items():
        table.add_row(name, f"{value:,.3f}" if value < 100 else f"{value:,.0f}", bar(name, value))
    console.print(table)
    if not sys.argv[1:]:
        here = provenance()
        write_json(
            FILE,
            {
                "metrics": metrics,
                "processor": processor(),
                "cores": os.cpu_count(),
                "git": git_state(Path(__file__).parents[1]),
                "packages": here["packages"],
            },
        )
        console.print(f"written to {FILE}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    one_line_errors(main)
