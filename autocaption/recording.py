"""The folder of a run while an experiment works in it: its lock, configuration, provenance and ranks."""

import logging
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from autocaption import build
from autocaption.callbacks.secrets_kept import SecretsKept
from autocaption.checks import as_path, whole
from autocaption.config import require_secrets, require_values, without_resolvers
from autocaption.data.fingerprint import fingerprint
from autocaption.data.sources import Source
from autocaption.errors import UserError
from autocaption.loggers.wandb import close_wandb
from autocaption.ranks import announce, is_first_rank, outside_rank, outside_world
from autocaption.runs.kept_secrets import forget
from autocaption.runs.provenance import FILE as PROVENANCE
from autocaption.runs.provenance import (
    command_line,
    hide_argument,
    record_fact,
    record_start,
    recorded_before,
)
from autocaption.runs.rank_folder import RankFolder
from autocaption.runs.record import FAILED
from autocaption.runs.run import PreemptedError, Run
from autocaption.runs.source_code import keep_code

log = logging.getLogger(__name__)

# Silence Lightning's remarks about what the user configured; set here, since its import sets them too.
for chatty in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(chatty).setLevel(logging.WARNING)


def seed_everything(config: DictConfig) -> None:
    """Seed the global generators, from which the initial weights are drawn."""
    pl.seed_everything(whole("seed", config.seed, 0, 2**32 - 1), workers=True, verbose=False)


@contextmanager
def recorded_run(
    config: DictConfig, task: str, resumed: dict[str, Any] | None = None
) -> Iterator[Run | None]:
    """Hold the run folder, and record how the run ends.

    A new folder gets configuration and provenance at once; one that was there before is left as it is until
    `begin`, so that a mistake costs it nothing. Other ranks than the first, which starts them, hold and write
    nothing.

    Args:
        config: the configuration; gets its `run_dir`.
        task: train or eval.
        resumed: the checkpoint that it resumes from.
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
    given = [hide_argument(one) for one in overrides()]
    run = Run.start(folder, task, shlex.join(command_line()), given, resumes=config.resume is not None)
    try:
        with run.recorded(), _ranks(_decided(config), run):
            if (images := OmegaConf.select(config, "report.images")) is not None:
                whole("report.images", images, 1)
            if run.has_begun:
                _describe(run, config)
            if resumed is not None:
                file, step = Path(config.resume).name, resumed["global_step"]
                run.note(resumed_from=file, step=step)
                log.info("Resuming %s from %s, step %d", folder, file, step)
            yield run
    except PreemptedError as error:
        if run.exit_code == 0:
            again = "It had finished"
        elif run.can_be_resumed:
            again = f"Resume with: resume={folder}"
        else:
            again = "Nothing to resume yet: run it again"
        log.info("Stopped by %s. %s", signal.Signals(error.signal).name, again)
        raise
    finally:
        _forget_where_unneeded(run)
        close_wandb(run.exit_code)
        run.release()


def begin(run: Run | None, config: DictConfig) -> None:
    """Change the run folder from here on: everything that can be refused has been checked."""
    if run is not None and not run.has_begun:
        run.begin()
        _describe(run, config)


def keep_secrets(run: Run | None, config: DictConfig, trainer: pl.Trainer) -> None:
    """Keep the secrets for as long as the run can be resumed; a trial gets them from its sweep again."""
    if run is not None and run.record["task"] == "train":
        secret: Any = OmegaConf.to_container(config, resolve=False)
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.insert(0, SecretsKept(run.folder, secret))


def _forget_where_unneeded(run: Run) -> None:
    """Remove the secrets of a run that has ended and that nobody can resume."""
    if not run.can_be_resumed:
        forget(run.folder)


def _describe(run: Run, config: DictConfig) -> None:
    """Write configuration and provenance."""
    build.save_config(config, run.folder / "config.yaml")
    code = keep_code(Path(__file__).parents[1], run.folder)
    record_start(run.folder / PROVENANCE, git=code)


def _decided(config: DictConfig) -> DictConfig:
    """The configuration with what this machine decides, which ranks, checkpoints and evaluations keep."""
    config.trainer.precision = build.precision(config)
    return config


def record_data(run: Run | None, source: Source, splits: Sequence[str], resumed: bool = False) -> None:
    """Add the digests of these splits to the provenance; a resumed run says which have changed."""
    if run is None:
        return
    digests = {split: fingerprint(source.split(split)) for split in dict.fromkeys(splits)}
    if resumed:
        before = recorded_before(run.folder / PROVENANCE, "data")
        if changed := [split for split in digests if before.get(split, digests[split]) != digests[split]]:
            log.warning(
                "images or captions of %s are not those of the attempt before: metrics from before and from "
                "now do not compare, nor does the choice of best.ckpt",
                " and ".join(changed),
            )
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
    shared = RankFolder.create(run.folder, without_resolvers(config))
    announce(str(shared.path.absolute()))

    def record(line: str) -> None:
        run.end(FAILED, 1, line)
        _forget_where_unneeded(run)

    with shared.supervised(record):
        yield


def overrides() -> list[str]:
    """The overrides of this job; a launched process has them on its command line."""
    if HydraConfig.initialized():
        return list(cast(Any, OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)))
    return [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
