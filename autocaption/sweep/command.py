"""`train.py -m sweep=...`: from the configuration to a finished sweep."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.pruners import NopPruner
from optuna.samplers import BruteForceSampler
from rich.console import Console

from autocaption.errors import UserError
from autocaption.launch.devices import share, visible_gpus
from autocaption.launch.process import Process, Running
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.launcher import Assignment, LaunchedTrial, hand_over, run_job
from autocaption.sweep.parameters import Sampler, sampler_of
from autocaption.sweep.plan import MODES, Plan, initial_trials, read_plan, require_grid
from autocaption.sweep.reporter import StudyReporter
from autocaption.sweep.storage import FAILURES, first_line, open_storage
from autocaption.sweep.study import open_study, record_location
from autocaption.sweep.summary import log_summary, write_report
from autocaption.sweep.sweeper import InterruptedSweepError, Sweeper
from autocaption.sweep.table import SweepTable
from autocaption.sweep.trials import Trials, callback_config

Start = Callable[[Claim, int], Running]
# Launchers of jobs on this machine, in whose place a sweep starts its trials itself.
LOCAL_LAUNCHERS = (
    "hydra_plugins.autocaption_launcher.launcher.AutocaptionLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
)


def sweep(context: HydraContext, config: DictConfig, arguments: list[str]) -> None:
    """Run the missing trials of the sweep that the configuration describes.

    Args:
        context: Hydra's context.
        config: composed without the command line's search space, `hydra` node included.
        arguments: the command line's overrides.
    """
    settings, console = config.sweep, Console()
    plan = read_plan(context.config_loader, config, arguments)
    folder = Path(settings.folder).absolute()
    url = settings.storage or f"sqlite:///{folder / 'study.db'}"
    storage = open_storage(url)
    pruner = instantiate(settings.pruner)
    if len(plan.objective) > 1 and not isinstance(pruner, NopPruner):
        raise UserError("Optuna can't prune by several objectives; take sweep/pruner=none")
    trials = _trials(context, config, plan)
    initial = _initial(plan, trials.sampler, console)
    study = open_study(storage, settings.study_name, plan.definition(), plan.groups, initial)
    study.pruner = pruner
    record_location(folder, settings.study_name, url)
    here = config.hydra.launcher._target_ in LOCAL_LAUNCHERS
    if here:
        start = _local_start(trials, study, settings.n_jobs)
    else:
        start = _launched_start(trials, context, config, folder, url)
    seeded = functools.partial(sampler_of, trials.sampler, settings.seed)
    claims = Claims(study, storage, folder, seeded, settings.n_trials, settings.grace, here)
    table = SweepTable(study, plan.objective, settings.n_trials, settings.n_jobs, console)
    try:
        Sweeper(
            claims,
            start,
            table,
            plan.objective,
            settings.n_jobs,
            settings.max_failures,
            settings.retries,
            settings.heartbeat,
        ).run()
    except InterruptedSweepError:
        console.print("Interrupted. Rerun the same command to resume.")
        sys.exit(130)
    except FAILURES as error:
        line = first_line(error.__cause__ or error)
        raise UserError(
            f"the sweep's storage or folder failed: {line}; fix it, then rerun the same command to resume"
        ) from error
    _conclude(study, plan, folder, console)


def _initial(plan: Plan, sampler: Sampler, console: Console) -> list[Mapping[str, Any]]:
    settings, distributions = plan.settings, plan.space.distributions
    grid = isinstance(sampler_of(sampler, settings.seed), BruteForceSampler)
    if grid:
        require_grid(distributions)
    enqueue: Any = OmegaConf.to_container(settings.enqueue)
    return initial_trials(distributions, plan.base if settings.baseline else None, enqueue, grid, console)


def _conclude(study: optuna.Study, plan: Plan, folder: Path, console: Console) -> None:
    """Write the report, and log a summary to W&B where trials log there."""
    console.print(f"report  {write_report(study, folder)}", soft_wrap=True, highlight=False)
    chosen = plan.base.get("logger") or OmegaConf.create({})
    logger: Any = OmegaConf.to_container(chosen, resolve=True)
    if "wandb" in logger:
        log_summary(study, plan.objective, logger["wandb"], folder)


def _trials(context: HydraContext, config: DictConfig, plan: Plan) -> Trials:
    settings = plan.settings
    return Trials(
        context.config_loader,
        config,
        plan.base,
        plan.space,
        plan.groups,
        plan.custom,
        functools.partial(instantiate, settings.sampler),
        callback_config(plan.objective[0], MODES[plan.direction[0]]),
    )


def _local_start(trials: Trials, study: optuna.Study, jobs: int) -> Start:
    """Run trials as processes of this machine, which share its GPUs and cores."""
    gpus, cores = visible_gpus(), os.cpu_count() or 1

    def start(claim: Claim, slot: int) -> Running:
        prepared = trials.prepare(claim)
        return Process(
            sys.argv[0],
            prepared.overrides,
            prepared.config,
            claim.folder,
            StudyReporter(study, claim.number, claim.attempt),
            share(slot, jobs, prepared.devices, gpus, cores),
            keep=[claim.lock.fileno()],
        )

    return start


def _launched_start(
    trials: Trials, context: HydraContext, config: DictConfig, folder: Path, url: str
) -> Start:
    """Run trials as jobs of Hydra's launcher."""
    settings = config.sweep
    pruner: Any = OmegaConf.to_container(settings.pruner, resolve=True)
    assignment = Assignment(
        os.path.abspath(sys.argv[0]), url, settings.study_name, pruner, settings.heartbeat
    )
    with open_dict(config):
        config.hydra.sweep.dir = str(folder)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=run_job, config=config
    )

    def start(claim: Claim, slot: int) -> Running:
        prepared = trials.prepare(claim)
        hand_over(prepared, claim, assignment)
        return LaunchedTrial(launcher, claim, prepared.overrides)

    return start
