"""The metrics that a configuration names, compared before a training with those that it will log."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from autocaption.errors import UserError
from autocaption.metrics.scored import names_of

LOSSES = "loss", "perplexity"  # of a split, beside its scores
UNKNOWN = "train/", "lr"  # prefixes of what the loss, and the optimizer's groups, give names to
CAPTION_METRICS = "autocaption.metrics.caption_metrics.CaptionMetrics"
# The callbacks that log no metric of a validation; any other may log one under a name that only it knows.
OURS = tuple(
    f"autocaption.callbacks.{name}."
    for name in (
        *("last_checkpoint", "preemption", "step_seed", "learning_rate", "predictions", "attention_maps"),
        *("progress_bar", "ema", "pruning"),
    )
)
LIGHTNINGS = "pytorch_lightning.callbacks.", "lightning.pytorch.callbacks."


def require_logged(
    config: DictConfig, scores: Collection[str] | None, objective: Sequence[str] | None = None
) -> None:
    """Check the metrics that callbacks monitor, and those that the run, or a sweep, is judged by.

    Nothing is refused where a callback of the user's own may log it: then the first validation tells.

    Args:
        config: of a training.
        scores: the names of its metrics' scores; None where they can't be known, so that nothing is refused.
        objective: that of a sweep, in place of the configuration's.

    Raises:
        UserError: names the first metric that will not be logged, and the nearest that will.
    """
    callbacks = dict(_callbacks(config))
    if scores is None or not all(target.startswith((*OURS, *LIGHTNINGS)) for target, _ in callbacks.values()):
        return
    validated, tested = ([f"{split}/{name}" for name in (*LOSSES, *scores)] for split in _splits(config))
    for key, (target, monitor) in callbacks.items():
        if objective is None or key != "best":  # whose monitor will be the objective
            counts = ("epoch", "step") if target.endswith(".ModelCheckpoint") else ()
            _require(f"callbacks.{key}.monitor", monitor, [*validated, *counts])
    left = ["epochs", "steps", *validated, *(tested if config.test else ())]
    if objective is None:
        _require("optimized_metric", config.optimized_metric, left)
    for i, metric in enumerate(objective or ()):
        _require("sweep.objective", metric, left if i else validated)  # the first is reported while training


def configured_scores(config: DictConfig) -> list[str] | None:
    """The names of the scores of the configured metrics, without loading torch; None for others' metrics."""
    metrics = config.get("metrics") or {}
    if metrics.get("_target_") != CAPTION_METRICS:
        return None
    nodes = (
        node for group in ("image_metrics", "split_metrics") for node in (metrics.get(group) or {}).values()
    )
    return names_of([instantiate(node) for node in nodes if node is not None])


def _callbacks(config: DictConfig) -> Iterator[tuple[str, tuple[str, Any]]]:
    """(name, (class, the metric that it monitors)) of each callback."""
    for name, node in (config.get("callbacks") or {}).items():
        if OmegaConf.is_dict(node):
            target = str(node.get("_target_"))
            # Lightning's hands its hooks over to functions of the user's.
            yield str(name), ("" if target.endswith(".LambdaCallback") else target, node.get("monitor"))


def _splits(config: DictConfig) -> tuple[str, str]:
    return "val", str(OmegaConf.select(config, "data.split"))


def _require(key: str, metric: Any, known: Sequence[str]) -> None:
    if metric is None or metric in known or str(metric).startswith(UNKNOWN):
        return
    near = difflib.get_close_matches(str(metric), known, n=3, cutoff=0.65)
    raise UserError(f"{key}={metric} is no metric that will be logged; take {' or '.join(near or known)}")
