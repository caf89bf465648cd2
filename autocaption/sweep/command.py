"""`train.py -m sweep=...`: from the configuration to a finished sweep."""

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.pruners import NopPruner
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.devices import share, visible_gpus
from autocaption.sweep.process import TrialProcess
from autocaption.sweep.sampling import sampler_of
from autocaption.sweep.space import Space, checked_values, read, standing_values
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.sweeper import InterruptedSweepError, Sweeper
from autocaption.sweep.table import SweepTable
from autocaption.sweep.trial_config import compose
from autocaption.sweep.trials import Trials, callback_config

DIRECTIONS = ("maximize", "minimize")


def sweep(context: HydraContext, config: DictConfig, arguments: list[str]) -> None:
    """Run what is missing of the sweep that the configuration describes.

    Args:
        context: Hydra's.
        config: composed without the search space of the command line, `hydra` node included.
        arguments: the overrides of the command line.
    """
    settings, console = config.sweep, Console()
    parser = OverridesParser.create(config_loader=context.config_loader)
    space = read(settings.space, arguments, parser)
    if not space.distributions and settings.custom_space is None:
        raise UserError("nothing to search: give sweep=show_and_tell, or KEY=interval(LOW, HIGH)")
    objective, direction = _objective(settings)
    standing = compose(context.config_loader, config, [*settings.overrides, *space.fixed])
    folder = Path(settings.folder).absolute()
    url = settings.storage or f"sqlite:///{folder / 'study.db'}"
    storage = open_storage(url)
    sampler = functools.partial(instantiate, settings.sampler)
    study = open_study(
        storage,
        settings.study_name,
        _definition(settings, space, objective, direction, parser),
        _first(settings, space, standing, console),
    )
    study.pruner = instantiate(settings.pruner)
    if len(objective) > 1 and not isinstance(study.pruner, NopPruner):
        raise UserError("several objectives can't be pruned by; take sweep/pruner=none")
    trials = Trials(
        context.config_loader,
        config,
        standing,
        space,
        get_method(settings.custom_space) if settings.custom_space else None,
        sampler,
        callback_config(objective, direction, url, settings.study_name, _plain(settings.pruner)),
    )
    claims = Claims(
        study,
        storage,
        folder,
        functools.partial(sampler_of, sampler, settings.seed),
        settings.n_trials,
        settings.grace,
        here=True,
    )
    table = SweepTable(study, objective, settings.n_trials, settings.n_jobs, console)
    sweeper = Sweeper(
        claims,
        functools.partial(_start, trials, settings.n_jobs, visible_gpus()),
        table,
        objective,
        settings.n_jobs,
        settings.max_failures,
        settings.retries,
        settings.heartbeat,
    )
    try:
        sweeper.run()
    except InterruptedSweepError:
        console.print("interrupted; the same command goes on")
        sys.exit(130)


def _start(trials: Trials, jobs: int, gpus: list[str], claim: Claim, slot: int) -> TrialProcess:
    prepared = trials.prepare(claim)
    return TrialProcess(
        sys.argv[0],
        prepared.words,
        prepared.config,
        claim.folder,
        share(slot, jobs, prepared.devices, gpus, os.cpu_count() or 1),
        keep=[claim.lock.fileno()],
    )


def _objective(settings: DictConfig) -> tuple[list[str], list[str]]:
    objective, direction = (
        [value] if isinstance(value, str) else list(value)
        for value in (settings.objective, settings.direction)
    )
    if len(objective) != len(direction) or not set(direction) <= set(DIRECTIONS):
        raise UserError(
            f"sweep.direction={settings.direction}: give {' or '.join(DIRECTIONS)} for each of "
            f"sweep.objective={settings.objective}"
        )
    return objective, direction


def _definition(
    settings: DictConfig, space: Space, objective: list[str], direction: list[str], parser: OverridesParser
) -> dict[str, Any]:
    """What has to stay as it is for the trials of a study to be comparable."""
    free = tuple(settings.may_differ)

    def matters(key: str) -> bool:
        return not any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in free)

    overrides = parser.parse_overrides(space.fixed)
    fixed = sorted(str(one.input_line) for one in overrides if matters(one.key_or_group))
    return {
        "space": space.described(),
        "custom_space": settings.custom_space,
        "objective": objective,
        "direction": direction,
        "fixed": fixed,
    }


def _first(settings: DictConfig, space: Space, standing: DictConfig, console: Console) -> list[Mapping]:
    """The trials to begin with: the configuration as it stands, and those of `sweep.enqueue`."""
    given = list(_plain(settings.enqueue))
    for values in given:
        checked_values(values, space.distributions)
    if not settings.baseline:
        return given
    try:
        return [standing_values(space.distributions, standing), *given]
    except UserError as error:
        console.print(f"no baseline among the trials: {error}", soft_wrap=True)
        return given


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)
