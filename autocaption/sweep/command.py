"""`train.py -m sweep=...`: from the configuration to a finished sweep."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.samplers import BruteForceSampler
from rich.console import Console

from autocaption.checks import as_path
from autocaption.errors import UserError, first_line
from autocaption.launch.cluster import Queue
from autocaption.launch.devices import reserved, threads, visible_gpus
from autocaption.launch.process import Process, Running
from autocaption.runs.provenance import holds_secret
from autocaption.runs.run import PreemptedError
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.closing import Closing
from autocaption.sweep.initial_trials import initial_trials, require_grid
from autocaption.sweep.launcher import JobSettings, LaunchedTrial, run_job, submit_trial, write_job
from autocaption.sweep.parameters import SamplerFactory, make_sampler, use_sampler
from autocaption.sweep.patience import Patience
from autocaption.sweep.plan import MODES, Plan, read_plan
from autocaption.sweep.pruner import make_pruner
from autocaption.sweep.reporter import StudyReporter
from autocaption.sweep.storage import STORAGE_ERRORS, Storage, open_storage, own_url
from autocaption.sweep.study import open_study, record_location
from autocaption.sweep.summary import log_summary, write_report
from autocaption.sweep.sweeper import InterruptedSweepError, Sweeper
from autocaption.sweep.table import SweepTable
from autocaption.sweep.trials import Trials, callback_config

Start = Callable[[Claim, int], Running]
SLURM_LAUNCHER = "hydra_plugins.autocaption_launcher.launcher.SlurmLauncher"
# Launchers of jobs on this machine, where a sweep starts its trials itself: ours, and Hydra's default.
LOCAL_LAUNCHERS = (
    "hydra_plugins.autocaption_launcher.launcher.AutocaptionLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",  # of Hydra 1.3
)


def sweep(context: HydraContext, config: DictConfig, arguments: list[str]) -> None:
    """Run the missing trials of the sweep that the configuration describes, then write its report.

    Args:
        context: Hydra's context.
        config: composed without the command line's search space, `hydra` node included.
        arguments: the overrides of the command line.
    """
    settings, console = config.sweep, Console()
    plan = read_plan(context.config_loader, config, arguments)
    folder = as_path("sweep.folder", settings.folder).absolute()
    pruner = make_pruner(settings.pruner, len(plan.objective))
    sampler: SamplerFactory = functools.partial(instantiate, settings.sampler)
    initial = _initial_trials(plan, sampler, console)
    storage = open_storage(settings.storage or own_url(folder))
    try:
        study = open_study(storage, settings.study_name, plan.definition(), plan.groups, initial)
        study.pruner = pruner
        use_sampler(study, sampler, settings.seed)
        record_location(folder, settings.study_name, settings.storage and storage.url)
        closing = Closing(study, storage, settings.n_trials)
        _run(study, storage, plan, context, config, console)
        if closing.take_on():
            _report(study, plan, folder, console)
        else:
            console.print("The other sweepers run the last trials; the last one writes the report.")
    except InterruptedSweepError as error:
        name = signal.Signals(error.signal).name
        console.print(f"Stopped by {name}. Rerun the same command to resume.", highlight=False)
        raise PreemptedError(error.signal) from None
    except STORAGE_ERRORS as error:
        line = first_line(error.__cause__ or error)
        raise UserError(
            f"the sweep's storage or folder failed: {line}; repair it and rerun the same command to resume"
        ) from error


def _run(
    study: optuna.Study,
    storage: Storage,
    plan: Plan,
    context: HydraContext,
    config: DictConfig,
    console: Console,
) -> None:
    """Run the missing trials."""
    settings, folder = config.sweep, Path(config.sweep.folder).absolute()
    callback = callback_config(plan.objective[0], MODES[plan.direction[0]])
    trials = Trials(
        context.config_loader, config, plan.base_config, plan.space, plan.groups, plan.custom, callback
    )
    local = config.hydra.launcher._target_ in LOCAL_LAUNCHERS
    if local:
        start = _local_start(trials, storage, study, settings.n_jobs)
    else:
        start = _launcher_start(trials, context, config, folder, storage.url)
    Sweeper(
        Claims(study, storage, folder, settings.n_trials, settings.grace, local),
        start,
        SweepTable(study, plan.objective, settings.n_trials, settings.n_jobs, console),
        plan.objective,
        jobs=settings.n_jobs,
        max_failures=settings.max_failures,
        retries=settings.retries,
        heartbeat=settings.heartbeat,
        patience=Patience(
            settings.storage_timeout,
            lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False),
        ),
    ).run()


def _initial_trials(plan: Plan, sampler: SamplerFactory, console: Console) -> list[Mapping[str, Any]]:
    settings, distributions = plan.settings, plan.space.distributions
    grid = isinstance(make_sampler(sampler, settings.seed), BruteForceSampler)
    if grid:
        require_grid(distributions)
    enqueue: Any = OmegaConf.to_container(settings.enqueue)
    base_config = plan.base_config if settings.baseline else None
    return initial_trials(distributions, base_config, enqueue, grid, console)


def _report(study: optuna.Study, plan: Plan, folder: Path, console: Console) -> None:
    console.print(f"report  {write_report(study, folder)}", soft_wrap=True, highlight=False)
    if (plan.base_config.get("logger") or {}).get("wandb"):
        # Resolved here: alone, `tags: ${tags}` would refer to itself.
        logger: Any = OmegaConf.to_container(plan.base_config.logger.wandb, resolve=True)
        log_summary(study, plan.objective, logger, folder)


def _local_start(trials: Trials, storage: Storage, study: optuna.Study, jobs: int) -> Start:
    """Start trials as processes of this machine, which share its GPUs and cores."""
    gpus = visible_gpus()

    def start(claim: Claim, slot: int) -> Running:
        """Start the trial's process; it holds the trial's lock and its GPUs until it ends."""
        prepared = trials.prepare(claim)
        trainer = prepared.config["trainer"]
        with reserved(gpus, trainer["accelerator"], trainer["devices"], jobs) as (devices, gpu_locks):
            return Process(
                sys.argv[0],
                prepared.overrides,
                prepared.config,
                claim.folder,
                StudyReporter(storage, study, claim.number, claim.attempt),
                {**threads(jobs), **devices},
                [claim.lock.fileno(), *gpu_locks],
            )

    return start


def _launcher_start(
    trials: Trials, context: HydraContext, config: DictConfig, folder: Path, url: str
) -> Start:
    """Start trials as jobs of the configured Hydra launcher."""
    sweep = config.sweep
    pruner: Any = OmegaConf.to_container(sweep.pruner, resolve=True)
    job_settings = JobSettings(
        script=os.path.abspath(sys.argv[0]),
        storage=url,
        study=sweep.study_name,
        pruner=pruner,
        heartbeat=sweep.heartbeat,
        storage_timeout=sweep.storage_timeout,
    )
    # Launchers print and pickle what they get, so they get no secrets: trials have a file for those.
    named = OmegaConf.masked_copy(config, "hydra")
    given: Any = OmegaConf.to_container(named.hydra.overrides.task, resolve=False)
    with open_dict(named):
        named.hydra.sweep.dir = str(folder)
        named.hydra.overrides.task = [one for one in given if not holds_secret(one)]
        named.hydra.job.override_dirname = ""  # the same overrides again
    HydraConfig.instance().set_config(named)  # they pickle this one, too
    launcher, queue = None, Queue()
    if config.hydra.launcher._target_ != SLURM_LAUNCHER:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=run_job, config=named
        )

    def start(claim: Claim, slot: int) -> Running:
        """Hand the trial to a job, which may start much later."""
        prepared = trials.prepare(claim)
        write_job(prepared, claim, job_settings)
        if launcher is None:
            logs = {"submitit_folder": str(folder / ".submitit/%j")}
            return submit_trial(claim, {**prepared.launcher, **logs}, queue)
        return LaunchedTrial(launcher, claim, prepared.overrides)

    return start
