"""The Trainer of a configuration, and the precision in which it multiplies."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import (
    Checkpoint,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
)
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from autocaption.build.parts import part, parts, plain
from autocaption.callbacks.last_checkpoint import LastCheckpoint
from autocaption.callbacks.stopping import StoppingKept
from autocaption.checks import whole
from autocaption.models.captioner import Captioner
from autocaption.precision import Shape, fastest_precision, set_matmul_precision
from autocaption.runs.checkpoint_io import SafeCheckpointIO, keep_within, save_after_validation
from autocaption.slurm import cluster_environment
from autocaption.trainer_settings import require_settings

# Of usual data and encoders, for the sizes of a step's products.
VOCABULARY, MEMORY_DIM, TOKENS = 3000, 1280, 55  # tokens of an image's five captions
MOST_TOKENS = 256  # more take longer, and are as fast


def trainer(config: DictConfig) -> pl.Trainer:
    """The Trainer with the configured loggers and callbacks.

    Raises:
        UserError: a setting is out of range, or a checkpoint would lie outside of `checkpoints/`.
    """
    settings: Any = OmegaConf.to_container(config.trainer, resolve=True)
    settings.pop("compile", None)
    settings.setdefault("_target_", "pytorch_lightning.Trainer")
    require_settings(settings)
    if (matmul := settings.pop("float32_matmul_precision", None)) is not None:
        set_matmul_precision(matmul)
    settings["precision"] = precision(config)
    own_loggers = loggers(config)
    # Lightning refuses callbacks of a kind that it is told to do without.
    switches = {"enable_progress_bar": ProgressBar, "enable_checkpointing": Checkpoint}
    unwanted = tuple(kind for switch, kind in switches.items() if settings.get(switch) is False)
    callbacks = [one for one in parts(config.get("callbacks")) if not isinstance(one, unwanted)]
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint):
            keep_within(callback, Path(config.run_dir) / "checkpoints")
            save_after_validation(callback)
        if isinstance(callback, EarlyStopping):  # which compares it after the first validation
            whole("callbacks.early_stopping.patience", callback.patience, 0)
    callbacks.sort(key=lambda one: isinstance(one, LastCheckpoint))  # which keeps what the others have saved
    callbacks += [StoppingKept(one) for one in callbacks if isinstance(one, EarlyStopping)]
    if not own_loggers:  # it refuses to run without one
        callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
    made = instantiate(
        settings,
        logger=own_loggers,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO(), *cluster_environment(settings["devices"], settings["num_nodes"])],
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
        default_root_dir=config.run_dir,
        _convert_="all",
    )
    if isinstance(made.strategy, DDPStrategy):
        made.strategy._setup_model = functools.partial(_wrapped, made.strategy)  # type: ignore[method-assign]
    return made


def _wrapped(strategy: Any, model: torch.nn.Module) -> DistributedDataParallel:
    """The model under DDP, set up on the stream that it is trained on.

    Lightning (2.6.6) takes a stream of its own, for CUDA graphs, which nobody captures here: on a GPU each
    gradient then waits for that stream, and torch (from 2.11 on) warns of it.
    """
    return DistributedDataParallel(
        module=model, device_ids=strategy.determine_ddp_device_ids(), **strategy._ddp_kwargs
    )


def loggers(config: DictConfig) -> list[Logger]:
    """The configured loggers, which have started nothing yet."""
    return parts(config.get("logger"))


def start_loggers(loggers: Sequence[Logger], config: DictConfig) -> None:
    """Give loggers the configuration, with which W&B and others start, and may refuse what is configured."""
    settings = plain(config)
    for logger in loggers:
        logger.log_hyperparams(settings)


def precision(config: DictConfig) -> str:
    """`trainer.precision`; for `auto`, the faster one at the products of the decoder's weights.

    A run's configuration (recording.py) and its checkpoints keep the answer.
    """
    if config.trainer.precision != "auto":
        return config.trainer.precision
    return fastest(config, config.trainer.accelerator)


def fastest(config: DictConfig, accelerator: str) -> str:
    """The precision in which the configured decoder's products are fastest on an accelerator."""
    return fastest_precision(accelerator, _products(config))


def _products(config: DictConfig) -> frozenset[Shape]:
    """A batch's tokens times each of the decoder's weights, before vocabulary and encoder are known."""
    with torch.device("meta"):  # sizes alone
        decoder = part(config, "model.decoder", vocab_size=VOCABULARY, memory_dim=MEMORY_DIM)
    rows = min(config.data.batch_size * TOKENS, MOST_TOKENS)
    weights = (weight.shape for weight in decoder.parameters() if weight.dim() == 2)
    return frozenset((rows, k, n) for n, k in weights)


def compiled(config: DictConfig, captioner: Captioner) -> Captioner:
    """The model, compiled if `trainer.compile` says so."""
    if config.trainer.get("compile"):
        captioner.encoder.compile()  # type: ignore[attr-defined]
        captioner.decoder.compile(dynamic=True)  # type: ignore[attr-defined]  # lengths vary
    return captioner
