"""One experiment from configuration to metrics; train.py and eval.py are its two commands."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from autocaption import build
from autocaption.config import MODEL_KEYS, require_values, with_optional_values, with_overrides
from autocaption.data.sources import SPLITS
from autocaption.files import write_json
from autocaption.models.captioner import METRICS
from autocaption.ranks import RANK_CONFIG, is_first_rank
from autocaption.report.tables import metrics_table, parameter_table
from autocaption.runs import checkpoint
from autocaption.runs.folder import checkpoint_to_resume
from autocaption.runs.provenance import record_start

# Silence Lightning's remarks about what the user configured; set here, since its import sets them too.
for chatty in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(chatty).setLevel(logging.WARNING)


def train(config: DictConfig) -> float | None:
    """Train, test the best checkpoint, and leave everything in the run folder.

    Returns:
        the metric named by `optimized_metric`, of the best checkpoint.
    """
    config = with_optional_values(config)
    saved = None
    if config.resume is not None:
        path = checkpoint_to_resume(config.runs, config.resume)
        saved = checkpoint.load(path)
        if HydraConfig.initialized():  # ranks and launched processes get their final configuration
            config = with_overrides(build.config_of(saved), config, _overrides())
        config.resume = str(path)
    folder = _start(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if saved is None and config.init_from is not None:  # its weights and vocabulary only
        saved = checkpoint.load(config.init_from)
    data, captioner = build.from_checkpoint(config, saved) if saved else build.from_config(config)
    if is_first_rank():
        Console().print(parameter_table(captioner))
    data.preload("train", "val", *([data.split_of("test")] if config.test else []))
    trainer = build.trainer(config, captioner)
    trainer.fit(captioner, data, ckpt_path=config.resume, weights_only=True)
    metrics = {"epochs": trainer.current_epoch, "steps": trainer.global_step, **_metrics_of(trainer, "val")}
    keeper = trainer.checkpoint_callback
    best = getattr(keeper, "best_model_path", "")
    if best:  # metrics of the best epoch, whose weights are kept
        metrics |= checkpoint.load(best)[METRICS]
    if config.test and not _pruned(trainer):
        if best:
            captioner.load_state_dict(checkpoint.load(best)["state_dict"])
        trainer.test(captioner, data, verbose=False)
        metrics |= _metrics_of(trainer, config.data.split)
    return _finish(config, folder, trainer, metrics, best)


def evaluate(config: DictConfig) -> float | None:
    """Score a checkpoint, or an ensemble of several, on `data.split`.

    Returns:
        the metric named by `optimized_metric`.
    """
    config = with_optional_values(config)
    given = [config.checkpoint] if isinstance(config.checkpoint, str) else config.checkpoint
    every = {str(Path(path).expanduser().absolute()): checkpoint.load(path) for path in given}
    path, saved = next(iter(every.items()))
    if HydraConfig.initialized():
        config = with_overrides(build.config_of(saved), config, _overrides(), MODEL_KEYS)
    folder = _start(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    one = len(every) == 1
    data, captioner = build.from_checkpoint(config, saved) if one else build.from_checkpoints(config, every)
    data.preload(data.split_of("test"))
    trainer = build.trainer(config, captioner)
    trainer.test(captioner, data, verbose=False)
    metrics = {
        "split": config.data.split,
        "epochs": saved["epoch"] + 1,
        **_metrics_of(trainer, config.data.split),
    }
    return _finish(config, folder, trainer, metrics, path if one else "")


def _start(config: DictConfig) -> Path:
    """The run folder, with the configuration and provenance written to it."""
    require_values(config)
    if config.run_dir is None:
        config.run_dir = HydraConfig.get().runtime.output_dir
    folder = Path(config.run_dir)
    if is_first_rank():
        build.save_config(config, folder / "config.yaml")
        record_start(folder / "provenance.json")
        os.environ[RANK_CONFIG] = str(folder / "config.yaml")
    return folder


def _finish(config: DictConfig, folder: Path, trainer: pl.Trainer, metrics: dict, best: str) -> float | None:
    """Write and print the metrics; returns the optimized one."""
    for logger in trainer.loggers:
        if isinstance(logger, pl.loggers.WandbLogger) and trainer.is_global_zero:
            import wandb

            wandb.finish()  # or the next job of a multirun would log to this run
    if trainer.is_global_zero:
        write_json(folder / "metrics.json", metrics)
        _print(metrics, folder, best)
    return metrics.get(config.optimized_metric)


def _pruned(trainer: pl.Trainer) -> bool:
    """Whether a sweep pruned the run."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(getattr(callback, "pruned", False) for callback in callbacks)


def _print(metrics: Mapping[str, Any], folder: Path, best: str) -> None:
    console = Console()
    console.print(metrics_table(metrics, SPLITS))
    files = {
        "checkpoint": Path(best),
        "metrics": folder / "metrics.json",
        "captions": folder / "captions.json",
        "sample pictures": folder / "samples.png",
    }
    for name, path in files.items():
        if path.is_file():
            console.print(f"{name:>15}  {path}", soft_wrap=True, highlight=False)


def _metrics_of(trainer: pl.Trainer, *splits: str) -> dict[str, float]:
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.split("/")[0] in splits
    }


def _overrides() -> list[str]:
    return list(HydraConfig.get().overrides.task)
