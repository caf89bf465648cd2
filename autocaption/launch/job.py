"""One job of `train.py -m`: what tells it from the others, and whether its run is there already."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import filter_overrides
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption.errors import UserError
from autocaption.launch.process import Process
from autocaption.launch.resolved import resolved
from autocaption.runs.folder import newest_checkpoint
from autocaption.runs.provenance import hide_argument
from autocaption.runs.record import FINISHED, RUNNING, started_with, state_of

# Keys of which the same job may have other values when it is run again.
MAY_DIFFER = re.compile(
    r"(hydra|cluster|logger|runs_dir|tags|report|data\.(root|num_workers|features_folder)"
    r"|trainer\.(accelerator|devices|num_nodes))(?![\w-])"
)
_ESCAPED = re.compile(r"\\(.)")  # as Hydra writes an interpolation into a job's overrides


@dataclass
class Job:
    """One job of a multirun.

    Attributes:
        number: Hydra's job.num.
        overrides: its command line, that of the multirun included.
        own: the overrides that tell it from the others.
        folder: its run folder.
        process: while it runs.
        error: why it failed.
    """

    number: int
    overrides: list[str]
    own: list[str]
    folder: Path
    config: DictConfig
    process: Process | None = None
    error: str = ""
    printed: int = field(default=0, repr=False)  # bytes of stdout.log that were shown

    @property
    def differs(self) -> str:
        """What tells it from the others, in words."""
        return " ".join(self.own) or f"job {self.number}"

    def metrics(self) -> dict[str, Any]:
        """What it left in metrics.json."""
        file = self.folder / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def is_missing(self) -> bool:
        """Whether it is to be run: it has neither finished nor is running, which is an error."""
        state = state_of(self.folder) if self.folder.exists() else ""
        if state == RUNNING:
            self.error = "another process is running it"
        return state not in (FINISHED, RUNNING)

    def require_its_folder(self) -> None:
        """Refuse a folder whose run would be taken for this job's.

        Raises:
            UserError: another job finished there, or can be resumed.
        """
        before = started_with(self.folder) if self.folder.exists() else None
        if not before:
            return
        theirs, ours = (_defining(one) for one in (before, map(hide_argument, self.overrides)))
        if theirs != ours and (self.metrics() or newest_checkpoint(self.folder)):
            was, now = (" ".join(sorted(one)) or "none of these" for one in (theirs - ours, ours - theirs))
            raise UserError(
                f"{self.folder} holds the run of another job: {was}, and not {now}; "
                "choose another hydra.sweep.dir"
            )

    def resolved(self) -> dict[str, Any]:
        """The configuration of its process, which resumes from the newest checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = newest_checkpoint(self.folder)
        resume = checkpoint and str(checkpoint.absolute())
        return resolved(self.config, run_dir=str(self.folder.absolute()), resume=resume)


def job_of(context: HydraContext, config: DictConfig, number: int, overrides: list[str]) -> Job:
    """The job of a multirun that has these overrides.

    Args:
        context: Hydra's context.
        config: composed from what the jobs have in common.
        number: Hydra's job.num.
        overrides: the job's command line.

    Raises:
        UserError: they would resume another run, or lead the job elsewhere.
    """
    composed = context.config_loader.load_sweep_config(config, overrides)
    for key in ("resume", "run_dir"):
        if composed[key] is not None:
            raise UserError(
                f"{key}={composed[key]} is of a single run; a multirun's jobs have folders of their own, "
                "and the same command with the same hydra.sweep.dir resumes them"
            )
    common = _common(config)
    words = (_ESCAPED.sub(r"\1", one) for one in filter_overrides(overrides))
    own = [hide_argument(one) for one in words if one not in common]
    job = Job(number, overrides, own, Path(), composed)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
        job.folder = Path(str(composed.hydra.sweep.dir)) / str(composed.hydra.sweep.subdir)
        if composed.get("logger") and composed.logger.get("wandb"):
            names = {"name": sanitised(job.differs), "group": sanitised(job.folder.parent.name)}
            for key, name in names.items():
                composed.logger.wandb.setdefault(key, name)
    return job


def _common(config: DictConfig) -> set[str]:
    """The overrides that all jobs have, as Hydra writes them into theirs: `test=False` for test=false."""
    given: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    last = {one.get_key_element(): one for one in OverridesParser.create().parse_overrides(given)}
    return {
        _ESCAPED.sub(r"\1", f"{key}={one.get_value_element_as_str()}")
        for key, one in last.items()
        if not one.is_sweep_override()
    }


def sanitised(name: str) -> str:
    """A name that W&B takes: without the characters that it refuses, 128 characters at most."""
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_")[:128] or "job"


def _defining(overrides: Iterable[str]) -> set[str]:
    """The overrides that a job's results follow from."""
    keys = {one: one.partition("=")[0].lstrip("+") for one in overrides if "=" in one}
    return {one for one, key in keys.items() if not MAY_DIFFER.match(key)}
