"""A training from configuration to metrics: what train.py runs."""

import logging
import shlex
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, read_write
from rich.console import Console

from autocaption import build, results, slurm
from autocaption.checks import as_path
from autocaption.config import (
    changes_on_resume,
    replayed,
    with_optional_values,
    with_overrides,
    with_secrets,
)
from autocaption.errors import UserError
from autocaption.loggers import Resumable
from autocaption.models.captioner import METRICS
from autocaption.models.sharding import load_whole
from autocaption.monitored import require_logged
from autocaption.ranks import is_first_rank
from autocaption.recording import begin, keep_secrets, overrides, record_data, recorded_run, seed_everything
from autocaption.report.system import read_system
from autocaption.report.tables import parameter_table
from autocaption.runs import checkpoint
from autocaption.runs.folder import checkpoint_to_resume, newest_checkpoint
from autocaption.runs.kept_secrets import kept
from autocaption.runs.provenance import command_line
from autocaption.runs.record import FINISHED, earlier_overrides, is_of_this_job, read
from autocaption.runs.run import Run
from autocaption.trainer_settings import require_further, require_validations

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train, test the best checkpoint, and leave everything in the run folder.

    Returns:
        the metric named by `optimized_metric`, of the best checkpoint.
    """
    if "runs" in config:  # of a file such as conf/local/default.yaml, which Hydra takes for a new key
        raise UserError("runs, the folder in which new runs lie, is called runs_dir; rename the key")
    config = with_optional_values(config)
    saved, changes = None, dict[str, Any]()
    if (begun := _begun_by_this_job(config)) is not None:
        if _has_finished(begun):
            log.info("%s has finished before this job was requeued", begun)
            return results.metric_of(begun, config.optimized_metric)
        if config.resume != "last":  # which has found it by itself
            config.resume = str(begun) if newest_checkpoint(begun) else None
    if config.resume is not None:
        path, damaged = checkpoint_to_resume(config.runs_dir, _resumed_name(config))
        for file in damaged:
            log.warning("%s is damaged; resuming from %s", file, path.name)
        saved = checkpoint.load(path)
        if HydraConfig.initialized():  # ranks and launched processes get their final configuration
            config, changes = _resumed(config, build.config_of(saved), path.parents[1])
        config.resume = str(path)
        _require_its_folder(config, path.parents[1])
    with recorded_run(config, "train", saved) as run:
        if run is not None and changes:
            run.note(changes=changes)
            for key, (before, after) in changes.items():
                log.info("changed on resume: %s from %s to %s", key, before, after)
        return _train(config, saved, run)


def _begun_by_this_job(config: DictConfig) -> Path | None:
    """The run folder, where this command of this Slurm job, which was then requeued, worked in it last."""
    if slurm.job_id() is None or not is_first_rank():  # others get their configuration from rank 0
        return None
    folder = Path(config.run_dir or HydraConfig.get().runtime.output_dir)
    record = read(folder)
    if record is None or not is_of_this_job(record):
        return None
    return folder if record["attempts"][-1]["command"] == shlex.join(command_line()) else None


def _has_finished(folder: Path) -> bool:
    """Whether the last attempt has; the run may have finished before, and this job is to train it further."""
    record = read(folder)
    return record is not None and record["attempts"][-1].get("state") == FINISHED


def _require_its_folder(config: DictConfig, folder: Path) -> None:
    """Refuse to resume a run in another folder than its own."""
    if config.run_dir is not None and as_path("run_dir", config.run_dir).resolve() != folder.resolve():
        raise UserError(
            f"run_dir={config.run_dir}: a run is resumed in its own folder, {folder}; leave run_dir out, "
            f"or start a new run from its weights with init_from={config.resume}"
        )


def _resumed_name(config: DictConfig) -> str:
    """What `resume=` names; for `last` the folder that Hydra has looked up as the job's."""
    if config.resume != "last" or not HydraConfig.initialized():
        return str(config.resume)
    job = cast(DictConfig, HydraConfig.get())
    # Lightning asks again when it launches the ranks; the run is running then, and no longer left to resume.
    with read_write(job):
        job.run.dir = job.runtime.output_dir
    return str(job.runtime.output_dir)


def _resumed(config: DictConfig, saved: DictConfig, folder: Path) -> tuple[DictConfig, dict[str, Any]]:
    """The configuration of a resumed run, and what differs from that of its checkpoint."""
    earlier, given = earlier_overrides(folder), overrides()
    composed = replayed("train", earlier, given, alone=config) if earlier else config
    merged = with_optional_values(with_overrides(saved, composed, given))
    changes = changes_on_resume(saved, merged)
    merged = with_secrets(merged, composed, kept(folder))
    merged.runs_dir, merged.run_dir = config.runs_dir, config.run_dir
    return merged, changes


def _train(config: DictConfig, resumed: dict[str, Any] | None, run: Run | None) -> float | None:
    seed_everything(config)
    saved = resumed
    if resumed is None and config.init_from is not None:  # its weights and vocabulary only
        saved = checkpoint.load(as_path("init_from", config.init_from))
        log.info("Vocabulary and weights: those of %s", config.init_from)
    data, captioner = build.from_checkpoint(config, saved) if saved else build.from_config(config)
    captioner.optimizer_and_schedule(total_steps=1000)  # finds a mistake in them before pictures are read
    trainer = build.trainer(config)
    require_logged(config, getattr(captioner.metrics["val"], "names", None))
    require_validations(trainer, data.training_batches(trainer.world_size))
    if resumed is not None:
        require_further(trainer, resumed)
    if is_first_rank():
        Console().print(parameter_table(captioner))
    splits = ["train", "val", *([data.split_of("test")] if config.test else [])]
    data.preload(*splits)
    build.start_loggers(trainer.loggers, config)
    begin(run, config)
    keep_secrets(run, config, trainer)
    record_data(run, data.source, splits, resumed is not None)
    captioner = build.compiled(config, captioner)
    for logger in trainer.loggers:
        if isinstance(logger, Resumable):  # of a run that starts anew in its folder, too
            logger.resume_at(resumed["global_step"] if resumed else 0)
    trainer.fit(captioner, data, ckpt_path=config.resume, weights_only=True)
    metrics = {
        "epochs": trainer.fit_loop.epoch_progress.current.ready,  # one that was cut short counts, too
        "steps": trainer.global_step,
        **results.metrics_of(trainer, "val"),
    }
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    kept = checkpoint.load(best) if best else None
    if kept:  # metrics of the best epoch, whose weights are kept
        metrics |= kept[METRICS]
    pruned = _pruned(trainer)
    if run is not None:
        run.pruned = pruned
    if config.test and not pruned:
        if kept:
            load_whole(captioner, kept["state_dict"])
        else:
            log.warning("no checkpoint was kept by a validation: the test is of the last weights")
        trainer.test(captioner, data, verbose=False)
        metrics |= results.metrics_of(trainer, config.data.split)
    if trainer.is_global_zero:
        _leave(config, trainer, metrics, best)
    return metrics.get(config.optimized_metric)


def _leave(config: DictConfig, trainer: pl.Trainer, metrics: dict[str, Any], best: str) -> None:
    """Write and print what the run leaves."""
    folder, split = Path(config.run_dir), config.data.split
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    written = results.write_scores(folder, split, metrics, results.tested(trainer), data.source)
    if config.get("report"):
        results.report(
            folder,
            lambda: [read_system(folder, folder.name, split)],
            data.source,
            split,
            data.evaluation_transform.seen,
            config.report.images,
        )
    results.show(written, folder, best)
    results.log_report(trainer.loggers, folder)


def _pruned(trainer: pl.Trainer) -> bool:
    """Whether a sweep pruned the run."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(getattr(callback, "pruned", False) for callback in callbacks)
