"""What a command line asks to score: a row for each model and search, and for captions that exist."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption import build
from autocaption.checks import as_path, switch
from autocaption.config import (
    MODEL_KEYS,
    differences,
    require_secrets,
    require_values,
    with_optional_values,
    with_overrides,
    with_secrets,
)
from autocaption.errors import UserError
from autocaption.evaluation.names import joined, short_names, slug
from autocaption.evaluation.searches import with_searches
from autocaption.evaluation.seeds import best_checkpoints
from autocaption.models.captioner import RECIPE
from autocaption.runs import checkpoint

log = logging.getLogger(__name__)

# Seeds may differ there.
ALIKE = (
    *("seed", "init_from", "runs_dir", "tags", "logger", "report", "test"),
    *("data.num_workers", "data.features_folder"),
)
FOLDER = "rows"  # of a run folder; a folder a row lies in it


@dataclass(frozen=True)
class Row:
    """What is scored.

    Attributes:
        name: as tables show it.
        folder: where its files go, relative to the run folder.
        checkpoints: a model, or the members of an ensemble; none where captions exist.
        captions: a file of captions; None where a model writes them, or people have.
        group: the experiment of which it is a seed.
        config: its whole configuration, where that is not the run's.
    """

    name: str
    folder: str = ""
    checkpoints: Sequence[str] = ()
    captions: str | None = None
    group: str | None = None
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Model:
    """Checkpoints as one system; several are an ensemble."""

    name: str
    checkpoints: Sequence[Path]
    group: str | None = None


def planned(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration with the rows that it asks for, as `rows_of` reads them.

    What defines a model comes from its checkpoint, but for what the command line changes. The data set, its
    split and the metrics are those of the first model, so that all rows are scored by the same rules.

    Args:
        config: as Hydra composed it.
        overrides: of the command line.

    Raises:
        UserError: nothing is asked for, it is ambiguous, or a checkpoint cannot be read.
    """
    for key in ("compare", "ensemble", "human"):
        switch(key, config[key])
    for key in ("resume", "init_from"):
        if config[key] is not None:
            raise UserError(f"{key}={config[key]} is of train.py; name what to score with checkpoint=PATH")
    # All are read, and fit one another, before the first is scored; without their weights.
    recipe_at = functools.cache(lambda path: {RECIPE: checkpoint.load(path)[RECIPE]})
    config_at = functools.cache(lambda path: build.config_of(recipe_at(path)))
    models = [*_checkpoints(config), *_seeds(config, config_at)]
    for model in models:
        build.require_one_vocabulary({str(path): recipe_at(path) for path in model.checkpoints})
    searches = with_searches(config, overrides) if models else {}
    found: list[tuple[Row, DictConfig]] = []
    for model in models:
        for search, (composed, changes) in searches.items():
            merged = with_overrides(config_at(model.checkpoints[0]), composed, changes, MODEL_KEYS)
            merged = with_secrets(with_optional_values(merged), composed, {})
            row = Row(
                name=joined(model.name, search, len(models) > 1, len(searches) > 1),
                checkpoints=[str(path) for path in model.checkpoints],
                group=model.group and joined(model.group, search, True, len(searches) > 1),
            )
            found.append((row, merged))
    base = found[0][1] if found else config
    files = _named_paths("captions", config.captions) if config.captions is not None else {}
    found += [(Row(name, captions=str(path)), base) for name, path in files.items()]
    if config.human:
        found.append((Row("human"), base))
    if not found:
        raise UserError(
            "nothing to score; give checkpoint=PATH, runs=GLOB of run folders, captions=FILE, or human=true"
        )
    return _with_rows(base, found)


def rows_of(config: DictConfig) -> list[Row]:
    """The rows of a planned configuration, in the order of the tables."""
    plain: Any = OmegaConf.to_container(config.rows, resolve=True)
    return [Row(name, **row) for name, row in plain.items()]


def _with_rows(base: DictConfig, found: Sequence[tuple[Row, DictConfig]]) -> DictConfig:
    names = [row.name for row, _ in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"two rows would be called '{twice}'; name them, as in 'checkpoint={{one: A, other: B}}'"
        )
    config, rows = base.copy(), dict[str, Any]()
    if config.run_dir is None:
        config.run_dir = HydraConfig.get().runtime.output_dir
    for number, (row, own) in enumerate(found, 1):
        entry = {key: value for key, value in asdict(row).items() if key != "name"}
        if len(found) > 1:
            entry["folder"] = f"{FOLDER}/{slug(number - 1, names)}"
            entry["config"] = _own_config(config, own, entry["folder"])
            others = [key for key in differences(base, own) if key.startswith(("data.source.", "metrics."))]
            if others:
                log.warning(
                    "%s is scored by the data and metrics of %s, not by those that it was trained with (%s)",
                    *(row.name, names[0], ", ".join(others)),
                )
        rows[row.name] = entry
    with open_dict(config):
        config.rows = rows
    return config


def _own_config(config: DictConfig, own: DictConfig, folder: str) -> Mapping[str, Any]:
    """The whole configuration of a row among several."""
    own = own.copy()
    own.run_dir = f"{config.run_dir}/{folder}"
    with open_dict(own):
        own.metrics = OmegaConf.to_container(config.metrics, resolve=True)
        own.data.split = config.data.split
        own.data.augment = []  # of training, and what it refers to is known only when it is made
        own.logger = {}  # the evaluation has them
    require_values(own)
    require_secrets(own)
    own.trainer.precision = build.precision(own)
    plain: Any = OmegaConf.to_container(own, resolve=True)
    return plain


def _checkpoints(config: DictConfig) -> Iterator[_Model]:
    given = config.checkpoint
    if given is None:
        if config.ensemble and config.runs is None:
            raise UserError("ensemble=true needs its members: checkpoint=[A,B], or runs=GLOB")
        return
    paths = _named_paths("checkpoint", given)
    if len(paths) == 1 and config.ensemble and config.runs is None:
        raise UserError("ensemble=true needs several members: checkpoint=[A,B], or runs=GLOB")
    if len(paths) > 1 and not (config.compare or config.ensemble):
        raise UserError(
            f"checkpoint names {len(paths)} files: add ensemble=true for the mean of their probabilities (as "
            "such a list meant before), or compare=true for a row each; both give both"
        )
    if len(paths) == 1 or config.compare:
        yield from (_Model(name, [path]) for name, path in paths.items())
    if len(paths) > 1 and config.ensemble:
        yield _Model("ensemble", list(paths.values()))


def _seeds(config: DictConfig, config_at: Callable[[Path], DictConfig]) -> Iterator[_Model]:
    if config.runs is None:
        return
    given: Any = OmegaConf.to_container(config.runs) if OmegaConf.is_config(config.runs) else config.runs
    groups = given if isinstance(given, dict) else {"": given}
    if not groups:
        raise UserError("runs={} names no run folders; give runs=GLOB or runs={NAME: GLOB}")
    for group, patterns in groups.items():
        key = f"runs.{group}" if group else "runs"
        several = patterns if isinstance(patterns, list) else [patterns]
        paths = best_checkpoints(key, [str(as_path(key, one).absolute()) for one in several])
        seeds = [config_at(path).get("seed") for path in paths]
        for path in paths[1:]:
            others = [k for k in differences(config_at(paths[0]), config_at(path)) if not k.startswith(ALIKE)]
            if others:
                log.warning(
                    "%s: %s and %s differ in more than their seed: %s",
                    *(key, paths[0].parents[1], path.parents[1], ", ".join(others)),
                )
        names = [f"seed {seed}" for seed in seeds]
        if len(set(names)) < len(names):
            names = short_names(paths)
        for name, path in zip(names, paths, strict=True):
            yield _Model(", ".join(filter(None, [group, name])), [path], group or "seeds")
        if config.ensemble:
            yield _Model(", ".join(filter(None, [group, "ensemble"])), paths)


def _named_paths(key: str, given: Any) -> dict[str, Path]:
    """{name: path} of a path, a list of paths, or a dict of names and paths."""
    if OmegaConf.is_dict(given) and len(given):
        return {str(name): as_path(f"{key}.{name}", path).absolute() for name, path in given.items()}
    if OmegaConf.is_config(given) and not len(given):
        raise UserError(f"{key}={given} names none; give {key}=PATH or {key}=[A,B]")
    paths = [as_path(key, one).absolute() for one in (given if OmegaConf.is_list(given) else [given])]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UserError(f"{key} names {twice} twice")
    return dict(zip(short_names(paths), paths, strict=True))
