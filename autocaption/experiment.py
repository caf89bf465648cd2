"""One experiment from configuration to metrics; train.py and eval.py are its two commands."""

import logging
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write
from rich.console import Console

from autocaption import build, results, slurm
from autocaption.checks import as_path, whole
from autocaption.config import (
    MODEL_KEYS,
    changes_on_resume,
    replayed,
    require_secrets,
    require_values,
    with_optional_values,
    with_overrides,
)
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.fingerprint import fingerprint
from autocaption.errors import UserError
from autocaption.loggers.csv import CSVLogger
from autocaption.loggers.wandb import WandbLogger, close_wandb
from autocaption.models.captioner import METRICS
from autocaption.models.sharding import load_whole
from autocaption.ranks import announce, is_first_rank, outside_rank, outside_world
from autocaption.report.tables import parameter_table
from autocaption.runs import checkpoint
from autocaption.runs.folder import checkpoint_to_resume, newest_whole
from autocaption.runs.provenance import FILE as PROVENANCE
from autocaption.runs.provenance import command_line, hide_argument, record_fact, record_start
from autocaption.runs.rank_folder import RankFolder
from autocaption.runs.run import (
    FAILED,
    FINISHED,
    PreemptedError,
    Run,
    earlier_overrides,
    is_of_this_job,
    read,
    state_of,
)
from autocaption.runs.source_code import keep_code
from autocaption.trainer_settings import require_validations

log = logging.getLogger(__name__)

# Silence Lightning's remarks about what the user configured; set here, since its import sets them too.
for chatty in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(chatty).setLevel(logging.WARNING)


def train(config: DictConfig) -> float | None:
    """Train, test the best checkpoint, and leave everything in the run folder.

    Returns:
        the metric named by `optimized_metric`, of the best checkpoint.
    """
    config = with_optional_values(config)
    saved, changes = None, dict[str, Any]()
    if (begun := _begun_by_this_job(config)) is not None:
        if state_of(begun) == FINISHED:
            log.info("%s has finished before this job was requeued", begun)
            return results.metric_of(begun, config.optimized_metric)
        if config.resume != "last":  # which has found it by itself
            config.resume = str(begun) if newest_whole(begun / "checkpoints")[0] else None
    if config.resume is not None:
        path, damaged = checkpoint_to_resume(config.runs, _resumed_name(config))
        for file in damaged:
            log.warning("%s is damaged; resuming from %s", file, path.name)
        saved = checkpoint.load(path)
        if HydraConfig.initialized():  # ranks and launched processes get their final configuration
            config, changes = _resumed(config, build.config_of(saved), path.parents[1])
        config.resume = str(path)
    with _run(config, "train", saved) as run:
        if run is not None and changes:
            run.note(changes=changes)
            for key, (before, after) in changes.items():
                log.info("changed on resume: %s from %s to %s", key, before, after)
        return _train(config, saved, run)


def _begun_by_this_job(config: DictConfig) -> Path | None:
    """The run folder, where the last to work in it was this Slurm job, which was then requeued."""
    if slurm.job_id() is None or not is_first_rank():  # others get their configuration from rank 0
        return None
    folder = Path(config.run_dir or HydraConfig.get().runtime.output_dir)
    record = read(folder)
    return folder if record and is_of_this_job(record) else None


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
    earlier, overrides = earlier_overrides(folder), _overrides()
    composed = replayed("train", earlier, overrides) if earlier else config
    merged = with_optional_values(with_overrides(saved, composed, overrides))
    changes = changes_on_resume(saved, merged)
    merged.runs, merged.run_dir = config.runs, config.run_dir
    return merged, changes


def _train(config: DictConfig, resumed: dict[str, Any] | None, run: Run | None) -> float | None:
    _seed(config)
    saved = resumed
    if resumed is None and config.init_from is not None:  # its weights and vocabulary only
        saved = checkpoint.load(as_path("init_from", config.init_from))
    data, captioner = build.from_checkpoint(config, saved) if saved else build.from_config(config)
    captioner.optimizer_and_schedule(total_steps=1000)  # finds a mistake in them before pictures are read
    trainer = build.trainer(config)
    require_validations(trainer, data.training_batches(trainer.world_size))
    if is_first_rank():
        Console().print(parameter_table(captioner))
    splits = ["train", "val", *([data.split_of("test")] if config.test else [])]
    data.preload(*splits)
    _record_data(run, data, splits)
    captioner = build.compiled(config, captioner)
    for logger in trainer.loggers:
        if resumed and isinstance(logger, CSVLogger):
            logger.resume_at(resumed["global_step"])
    trainer.fit(captioner, data, ckpt_path=config.resume, weights_only=True)
    metrics = {
        "epochs": trainer.current_epoch,
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
        trainer.test(captioner, data, verbose=False)
        metrics |= results.metrics_of(trainer, config.data.split)
    return _finish(config, trainer, metrics, best)


def evaluate(config: DictConfig) -> float | None:
    """Score a checkpoint, or an ensemble of several, on `data.split`.

    Returns:
        the metric named by `optimized_metric`.
    """
    config = with_optional_values(config)
    given = config.checkpoint if OmegaConf.is_list(config.checkpoint) else [config.checkpoint]
    paths = [as_path("checkpoint", one).absolute() for one in given]
    if not paths:
        raise UserError("checkpoint=[] names none; give checkpoint=PATH or checkpoint=[A,B]")
    every = {str(path): checkpoint.load(path) for path in paths}
    path, saved = next(iter(every.items()))
    if HydraConfig.initialized():
        config = with_overrides(build.config_of(saved), config, _overrides(), MODEL_KEYS)
    with _run(config, "eval") as run:
        _seed(config)
        one = len(every) == 1
        data, captioner = (
            build.from_checkpoint(config, saved) if one else build.from_checkpoints(config, every)
        )
        trainer = build.trainer(config)
        data.preload(data.split_of("test"))
        _record_data(run, data, [data.split_of("test")])
        captioner = build.compiled(config, captioner)
        trainer.test(captioner, data, verbose=False)
        metrics = {
            "split": config.data.split,
            "epochs": saved["epoch"] + 1,
            **results.metrics_of(trainer, config.data.split),
        }
        return _finish(config, trainer, metrics, path if one else "")


def _seed(config: DictConfig) -> None:
    """Seed the global generators, from which the initial weights are drawn."""
    pl.seed_everything(whole("seed", config.seed, 0, 2**32 - 1), workers=True, verbose=False)


@contextmanager
def _run(config: DictConfig, task: str, resumed: dict[str, Any] | None = None) -> Iterator[Run | None]:
    """Hold the run folder, write configuration and provenance to it, and record how the run ends.

    Other ranks than the first, which starts them, hold and write nothing.
    """
    require_values(config)
    if config.run_dir is None:
        config.run_dir = HydraConfig.get().runtime.output_dir
    config.run_dir = str(as_path("run_dir", config.run_dir))
    if not is_first_rank():
        yield None
        return
    require_secrets(config)
    folder = Path(config.run_dir)
    task = "trial" if "sweep" in (config.get("callbacks") or {}) else task
    overrides = [hide_argument(one) for one in _overrides()]
    run = Run.start(folder, task, shlex.join(command_line()), overrides)
    try:
        with run.recorded(), _ranks(_decided(config), run):
            build.save_config(config, folder / "config.yaml")
            if (images := OmegaConf.select(config, "report.images")) is not None:
                whole("report.images", images, 1)
            code = keep_code(Path(build.__file__).parents[1], folder)
            record_start(folder / PROVENANCE, git=code)
            if resumed is not None:
                file, step = Path(config.resume).name, resumed["global_step"]
                run.note(resumed_from=file, step=step)
                log.info("Resuming %s from %s, step %d", folder, file, step)
            yield run
    except PreemptedError as error:
        log.info("Stopped by %s. Resume with: resume=%s", signal.Signals(error.signal).name, folder)
        raise
    finally:
        close_wandb(run.exit_code)
        run.release()


def _decided(config: DictConfig) -> DictConfig:
    """The configuration with what this machine decides, which ranks, checkpoints and evaluations keep."""
    config.trainer.precision = build.precision(config)
    return config


def _record_data(run: Run | None, data: CaptionDataModule, splits: list[str]) -> None:
    if run is not None:
        digests = {split: fingerprint(data.source.split(split)) for split in dict.fromkeys(splits)}
        record_fact(run.folder / PROVENANCE, data=digests)


@contextmanager
def _ranks(config: DictConfig, run: Run) -> Iterator[None]:
    """Hand the configuration to the run's other ranks, where it has any, and end with them.

    Raises:
        UserError: another number of ranks was started than is configured, or one of them failed.
    """
    wanted, started = (config.trainer.devices, config.trainer.num_nodes), outside_world()
    if started is not None and all(isinstance(n, int) and n > 0 for n in wanted):
        devices, nodes = wanted
        if devices * nodes != started:
            raise UserError(
                f"{started} processes for trainer.devices={devices}, trainer.num_nodes={nodes}; "
                "start one for each device"
            )
    if wanted == (1, 1) and outside_rank() is None:
        yield
        return
    plain: Any = OmegaConf.to_container(config, resolve=True)
    shared = RankFolder.create(run.folder, plain)
    announce(str(shared.path.absolute()))
    with shared.supervised(lambda line: run.end(FAILED, 1, line)):
        yield


def _finish(config: DictConfig, trainer: pl.Trainer, metrics: dict, best: str) -> float | None:
    """Write and print what the run leaves; returns the optimized metric."""
    folder, split = Path(config.run_dir), config.data.split
    if trainer.is_global_zero:
        results.write_metrics(trainer, folder, split, metrics)
        if config.get("report"):
            results.report(trainer, folder, split, best, config.report.images)
        results.show(metrics, folder, best)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_report(folder / results.REPORT)
    return metrics.get(config.optimized_metric)


def _pruned(trainer: pl.Trainer) -> bool:
    """Whether a sweep pruned the run."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(getattr(callback, "pruned", False) for callback in callbacks)


def _overrides() -> list[str]:
    """The overrides of this job; a launched process has them on its command line."""
    if HydraConfig.initialized():
        return list(cast(Any, OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)))
    return [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
