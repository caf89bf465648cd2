"""Fills the tables of a page of results: `python experiments/table.py FOLDER`.

Between the lines `<!-- table NAME.json -->` and `<!-- end -->` of FOLDER/README.md goes a table of
FOLDER/NAME.json, which is the metrics.json of an eval.py with several rows. No figure is typed by hand.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = {
    "CIDEr-D": "cider",
    **{f"BLEU-{n}": f"bleu{n}" for n in (1, 2, 3, 4)},
    "ROUGE-L": "rouge_l",
    "CIDEr-D, df of train": "cider_train_df",
}
PLACE = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
DASH = "\N{EN DASH}"


def table(found: Mapping[str, Any]) -> str:
    """A line for each experiment with several seeds, and for each row that is no seed of one.

    Scores are in percent: mean ± sample standard deviation over seeds, or a score with its 95 % bootstrap
    interval over the images.

    Args:
        found: what metrics.json of several rows holds.
    """
    split = found["split"]
    keys = {title: f"{split}/{name}" for title, name in COLUMNS.items()}
    lines = [["", *keys], ["---"] * (len(keys) + 1)]
    for name, group in found["seeds"].items():
        cells = [group["metrics"].get(key) for key in keys.values()]
        lines.append(
            [
                f"{name}, {len(group['rows'])} seeds",
                *(f"{_percent(one['mean'])} ± {_percent(one['std'])}" if one else "" for one in cells),
            ]
        )
    seeds = {row for group in found["seeds"].values() for row in group["rows"]}
    for name, row in found["rows"].items():
        if name not in seeds:
            lines.append([name, *(_cell(row.get(key), row["intervals"].get(key)) for key in keys.values())])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(score: float | None, interval: Sequence[float] | None) -> str:
    if score is None:
        return ""
    return _percent(score) + (f" ({DASH.join(map(_percent, interval))})" if interval else "")


def _percent(score: float) -> str:
    return f"{100 * score:.1f}"


def main(folder: Path) -> None:
    """Fill the page of a folder."""
    page = folder / "README.md"

    def filled(place: re.Match[str]) -> str:
        start, name, end = place.groups()
        file = folder / name
        if not file.is_file():
            sys.exit(f"error: {page} asks for {file}, which is not there; copy it from the run folder")
        return start + "\n" + table(json.loads(file.read_text(encoding="utf-8"))) + "\n" + end

    page.write_text(PLACE.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give the folder of a page: python experiments/table.py experiments/flickr8k")
    main(Path(sys.argv[1]))
