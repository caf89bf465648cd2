"""Names of rows, and of their folders."""

import re
from collections.abc import Sequence
from pathlib import PurePath


def short_names(paths: Sequence[PurePath]) -> list[str]:
    """For each of several paths what tells it from the others; for a single one its file's name."""
    parts = [[*path.parts[:-1], path.stem] for path in paths]
    parts = [[one for one in names if one != "checkpoints"] for names in parts]
    while min(map(len, parts)) > 1 and len({names[0] for names in parts}) == 1:
        parts = [names[1:] for names in parts]
    while min(map(len, parts)) > 1 and len({names[-1] for names in parts}) == 1:
        parts = [names[:-1] for names in parts]
    return ["/".join(names) for names in parts]


def joined(model: str, search: str, several_models: bool, several_searches: bool) -> str:
    """What tells a row from the others: its model, its search, or both."""
    if several_models and several_searches:
        return f"{model}, {search}"
    return search if several_searches else model


def mean_of_seeds(group: str) -> str:
    """What the mean of an experiment's seeds is called beside the rows."""
    return f"{group}, mean"


def slug(place: int, names: Sequence[str]) -> str:
    """The name of a row's folder, and of the row to loggers, of which MLflow takes no other characters.

    It has the row's number where the row's name is not enough.
    """
    slugs = [re.sub(r"[^\w-]+", "_", one).strip("_").lower()[:80] for one in names]
    own = slugs[place]
    if own and slugs.count(own) == 1:
        return own
    numbered = f"{own}_{place + 1}".strip("_")
    return numbered if numbered not in slugs else f"{numbered}_"  # which no row is called
