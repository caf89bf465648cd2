"""Settings that Lightning's Trainer (2.6) takes without a look, or refuses only after pictures were read."""

import re
from collections.abc import Mapping
from typing import Any

from autocaption.checks import number, whole
from autocaption.errors import UserError

LEAST = {  # the least whole number of each
    "max_epochs": -1,
    "max_steps": -1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
}
OPTIONAL = ("max_epochs", "check_val_every_n_epoch", "log_every_n_steps", "num_sanity_val_steps")
# Precisions under which Lightning converts each batch; it refuses frozen dataclasses, at the first step.
UNCONVERTED = ("64", "64-true", "16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")
MULTIPROCESSING = "_spawn", "_fork", "_notebook"  # strategies whose processes end before the run does
DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
MOST_NODES = 100_000  # more don't fit into torch's store


def require_settings(settings: Mapping[str, Any]) -> None:
    """Check the values of `trainer`.

    Raises:
        UserError: names one that is out of range.
    """
    for name, least in LEAST.items():
        value = settings.get(name)
        if name in settings and not (value is None and name in OPTIONAL):
            whole(f"trainer.{name}", value, least)
    if "num_nodes" in settings:
        whole("trainer.num_nodes", settings["num_nodes"], 1, MOST_NODES)
    if settings.get("gradient_clip_val") is not None:
        number("trainer.gradient_clip_val", settings["gradient_clip_val"], at_least=0)
    limit = settings.get("max_time")
    if limit is not None and not isinstance(limit, Mapping) and not DURATION.fullmatch(str(limit)):
        raise UserError(f"trainer.max_time={limit}: take DD:HH:MM:SS, such as 00:12:00:00 for twelve hours")
    if str(settings.get("precision")) in UNCONVERTED:
        raise UserError(
            f"trainer.precision={settings['precision']} would convert each batch, which ours do not allow; "
            "take 32-true, bf16-mixed or 16-mixed"
        )
    strategy = settings.get("strategy")
    if isinstance(strategy, str) and any(kind in strategy for kind in MULTIPROCESSING):
        raise UserError(f"trainer.strategy={strategy} starts processes that can't be resumed; take ddp")
    if settings.get("sync_batchnorm") and settings.get("accelerator") == "cpu":
        raise UserError("trainer.sync_batchnorm=true works on GPUs only; take trainer.sync_batchnorm=false")
    interval = settings.get("val_check_interval")
    if isinstance(interval, float):
        number("trainer.val_check_interval", interval, above=0, at_most=1)
    elif interval is not None and not isinstance(interval, str):  # a time, such as 00:01:00:00
        whole("trainer.val_check_interval", interval, 1)


def require_validations(trainer: Any, batches: int) -> None:
    """Check that `trainer.val_check_interval` fits into an epoch.

    Args:
        trainer: the Trainer.
        batches: the batches of an epoch on each device.

    Raises:
        UserError: no epoch would be validated.
    """
    limit, interval = trainer.limit_train_batches, trainer.val_check_interval
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    by_epochs = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches > 0
    if by_epochs and isinstance(interval, int) and interval > batches:
        raise UserError(
            f"trainer.val_check_interval={interval} is more than the {batches} batches of an epoch; take "
            "fewer, a share such as 0.5, or trainer.check_val_every_n_epoch=null to count on over epochs"
        )


def require_validated(settings: Mapping[str, Any]) -> None:
    """Check that a training with these values of `trainer` is validated at all, as a sweep's trials must be.

    Raises:
        UserError: names the value for which it never is, or one that is out of range.
    """
    require_settings(settings)
    for name in ("max_epochs", "max_steps", "limit_val_batches"):
        if settings.get(name) == 0:
            raise UserError(f"trainer.{name}=0: no trial of the sweep would be validated; raise it")
    epochs, every = settings["max_epochs"], settings.get("check_val_every_n_epoch")
    if epochs is not None and every is not None and 0 < epochs < every:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every} is more than trainer.max_epochs={epochs}: "
            "no trial of the sweep would be validated; lower it"
        )


def require_further(trainer: Any, saved: Mapping[str, Any]) -> None:
    """Check that a resumed training doesn't end before the moment of its checkpoint, which it can't undo.

    Args:
        trainer: the Trainer.
        saved: the checkpoint.

    Raises:
        UserError: it has trained for longer already.
    """
    trained = {"max_epochs": saved["epoch"] + 1, "max_steps": saved["global_step"]}
    for name, so_far in trained.items():
        limit = getattr(trainer, name)
        if limit is not None and 0 <= limit < so_far:
            raise UserError(f"trainer.{name}={limit}: the checkpoint has trained {so_far} already; give more")
