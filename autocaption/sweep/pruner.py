"""The pruner of a sweep, tried before the first trial."""

import warnings

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.pruners import BasePruner, NopPruner

from autocaption.errors import UserError, one_line

TRIALS, EPOCHS = 6, 3  # of the study that a pruner is tried on: more than those after which it may start


def make_pruner(config: DictConfig, objectives: int) -> BasePruner:
    """The configured pruner; Optuna's look at some of their settings only as they prune.

    Args:
        config: `sweep.pruner`.
        objectives: how many metrics the sweep optimizes.

    Raises:
        UserError: it is no pruner, can't prune by several objectives, or fails on trials of any kind.
    """
    with warnings.catch_warnings(action="ignore"):  # experimental pruners
        pruner = instantiate(config)
    if not isinstance(pruner, BasePruner):
        raise UserError(
            f"sweep.pruner: {type(pruner).__name__} is no pruner of Optuna; take sweep/pruner=none"
        )
    if objectives > 1 and not isinstance(pruner, NopPruner):
        raise UserError("Optuna can't prune by several objectives; take sweep/pruner=none")
    try:
        _try(pruner)
    except Exception as error:  # whatever a pruner, perhaps the user's, raises
        raise UserError(
            f"{type(pruner).__name__} can't prune: {one_line(error)}; change sweep.pruner, or take another"
        ) from error
    return pruner


def _try(pruner: BasePruner) -> None:
    """Report values of made-up trials to it, in a study of their own."""
    storage = optuna.storages.InMemoryStorage()
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler, pruner=pruner)
    with warnings.catch_warnings(action="ignore"):
        for number in range(TRIALS):
            trial = study.ask()
            for epoch in range(1, EPOCHS + 1):
                trial.report(number / epoch, epoch)
                trial.should_prune()
            study.tell(trial, float(number))
