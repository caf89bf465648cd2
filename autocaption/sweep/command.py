"""`train.py -m sweep=...`: from the configuration to a finished sweep."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.pruners import NopPruner
from rich.console import Console

from autocaption.errors import UserError
from autocaption.sweep.claims import Claim, Claims
from autocaption.sweep.devices import share, visible_gpus
from autocaption.sweep.launched import LaunchedTrial, hand_over, run_job
from autocaption.sweep.plan import MODES, Plan, read_plan
from autocaption.sweep.process import Running, TrialProcess
from autocaption.sweep.report import remember_place, write_report
from autocaption.sweep.sampling import sampler_of
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study
from autocaption.sweep.summary import log_summary
from autocaption.sweep.sweeper import InterruptedSweepError, Sweeper
from autocaption.sweep.table import SweepTable
from autocaption.sweep.trials import Trials, callback_config

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def sweep(context: HydraContext, config: DictConfig, arguments: list[str]) -> None:
    """Run what is missing of the sweep that the configuration describes.

    Args:
        context: Hydra's.
        config: composed without the search space of the command line, `hydra` node included.
        arguments: the overrides of the command line.
    """
    settings, console = config.sweep, Console()
    plan = read_plan(context.config_loader, config, arguments)
    folder = Path(settings.folder).absolute()
    url = settings.storage or f"sqlite:///{folder / 'study.db'}"
    storage = open_storage(url)
    sampler = functools.partial(instantiate, settings.sampler)
    pruner = instantiate(settings.pruner)
    if len(plan.objective) > 1 and not isinstance(pruner, NopPruner):
        raise UserError("Optuna can't prune by several objectives; take sweep/pruner=none")
    study = open_study(storage, settings.study_name, plan.definition(), plan.groups, plan.first(console))
    study.pruner = pruner
    remember_place(folder, settings.study_name, url)
    here = config.hydra.launcher._target_ == BASIC_LAUNCHER
    trials = _trials(context, config, plan, url)
    sweeper = Sweeper(
        Claims(
            study,
            storage,
            folder,
            functools.partial(sampler_of, sampler, settings.seed),
            settings.n_trials,
            settings.grace,
            here,
        ),
        _local_start(trials, settings.n_jobs) if here else _launched_start(trials, context, config, folder),
        SweepTable(study, plan.objective, settings.n_trials, settings.n_jobs, console),
        plan.objective,
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
    console.print(f"report  {write_report(study, folder)}", soft_wrap=True, highlight=False)
    logger = plan.standing.logger
    if logger and "wandb" in logger:
        log_summary(study, plan.objective, OmegaConf.to_container(logger.wandb), folder)  # type: ignore[arg-type]


def _trials(context: HydraContext, config: DictConfig, plan: Plan, url: str) -> Trials:
    settings = plan.settings
    pruner = OmegaConf.to_container(settings.pruner, resolve=False)
    return Trials(
        context.config_loader,
        config,
        plan.standing,
        plan.space,
        get_method(settings.custom_space) if settings.custom_space else None,
        functools.partial(instantiate, settings.sampler),
        callback_config(
            plan.objective[0],
            MODES[plan.direction[0]],
            url,
            settings.study_name,
            pruner,  # type: ignore[arg-type]
        ),
    )


def _local_start(trials: Trials, jobs: int) -> Callable[[Claim, int], Running]:
    """Trials as processes of this machine, which share its GPUs and cores."""
    gpus, cores = visible_gpus(), os.cpu_count() or 1

    def start(claim: Claim, slot: int) -> Running:
        prepared = trials.prepare(claim)
        environment = share(slot, jobs, prepared.devices, gpus, cores)
        keep = [claim.lock.fileno()]
        return TrialProcess(sys.argv[0], prepared.words, prepared.config, claim.folder, environment, keep)

    return start


def _launched_start(
    trials: Trials, context: HydraContext, config: DictConfig, folder: Path
) -> Callable[[Claim, int], Running]:
    """Trials as jobs of Hydra's launcher."""
    with open_dict(config):
        config.hydra.sweep.dir = str(folder)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=run_job, config=config
    )

    def start(claim: Claim, slot: int) -> Running:
        prepared = trials.prepare(claim)
        hand_over(prepared, os.path.abspath(sys.argv[0]), config.sweep.heartbeat, claim)
        return LaunchedTrial(launcher, claim, prepared.words)

    return start
