"""The models of a configuration and of checkpoints, with their data."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torchmetrics import MetricCollection

from autocaption.build.data_parts import datamodule, source_of, view
from autocaption.build.parts import part
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.image_table import captions_of
from autocaption.data.sources import Source
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import View
from autocaption.errors import UserError
from autocaption.metrics.caption_metrics import CaptionMetrics
from autocaption.models.captioner import RECIPE, Captioner
from autocaption.models.protocols import Criterion
from autocaption.models.weights import load_weights
from autocaption.ranks import is_first_rank
from autocaption.runs.checkpoint import LAYOUT, load
from autocaption.runs.provenance import without_secrets

log = logging.getLogger(__name__)


def from_config(config: DictConfig) -> tuple[CaptionDataModule, Captioner]:
    """Data and a new model, with pretrained encoder weights if the configuration asks for them."""
    if "reward" in config.model.loss and is_first_rank():
        log.warning(
            "A new model samples no captions worth a reward; start from a trained one with init_from=PATH"
        )
    source = source_of(config)
    tokenizer = part(config, "tokenizer").fit(
        text for _, texts in captions_of(source.split("train")) for text in texts
    )
    encoder = part(config, "model.encoder")
    return datamodule(config, source, tokenizer, encoder), assembled(config, encoder, tokenizer, source)


def from_checkpoint(
    config: DictConfig, checkpoint: dict[str, Any], source: Source | None = None
) -> tuple[CaptionDataModule, Captioner]:
    """Data, and the model of a checkpoint with its vocabulary and weights.

    Args:
        config: the checkpoint's, possibly changed (`with_overrides`).
        checkpoint: as `runs/checkpoint.py` reads it.
        source: another data set than the configured one.
    """
    source = source or source_of(config)
    captioner = model_of(config, checkpoint, source)
    data = datamodule(config, source, captioner.tokenizer, captioner.encoder)
    return data, captioner


def model_of(
    config: DictConfig, checkpoint: dict[str, Any], source: Source | None = None, **parts: Any
) -> Captioner:
    """The model of a checkpoint.

    Args:
        config: the checkpoint's configuration, possibly changed.
        checkpoint: as `runs/checkpoint.py` reads it.
        source: the data set whose training captions metrics compare with; None for a model to caption with.
        parts: arguments of Captioner in place of the configured ones.

    Raises:
        UserError: the weights don't fit the configured model.
    """
    tokenizer = part(config, "tokenizer", vocabulary=checkpoint[RECIPE]["vocabulary"])
    encoder = part(_without_pretrained(config), "model.encoder")
    architecture = checkpoint[RECIPE].get("architecture")
    captioner = assembled(config, encoder, tokenizer, source, architecture, **parts)
    try:
        load_weights(captioner, checkpoint["state_dict"])
    except ValueError as error:
        raise UserError(f"the checkpoint's weights don't fit the configured model: {error}") from None
    return captioner


def _without_pretrained(config: DictConfig) -> DictConfig:
    """The configuration without weights from elsewhere, since a checkpoint holds those of the encoder."""
    config = config.copy()
    encoder = config.model.encoder
    for one in [encoder, *(encoder.get("sources") or {}).values()]:
        if "pretrained" in one:
            one.pretrained, one.weights = False, None
    return config


class _Later:
    """The configured data set, not read before a metric asks for its captions."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config

    def split(self, name: str) -> Any:
        return source_of(self.config).split(name)


def captioner_of(path: str | Path, **parts: Any) -> Captioner:
    """The model of a checkpoint's file, for Lightning's Trainer.

    Its metrics read the training captions of the configured data set, where they need them.

    Args:
        path: a file of a run's checkpoints/, or an export's folder.
        parts: arguments of Captioner in place of the configured ones.
    """
    saved = load(path)
    config = config_of(saved)
    later: Any = _Later(config)
    return model_of(config, saved, later, **parts)


def for_pictures(checkpoint: dict[str, Any]) -> tuple[Captioner, View, int]:
    """The model of a checkpoint, ready to caption, the transform for its pictures, and their most pixels."""
    config = config_of(checkpoint)
    # Without metrics, which may want Java or files of the machine that trained it.
    captioner = model_of(config, checkpoint, metrics=MetricCollection([])).eval()
    return captioner, view(config, captioner.encoder), config.data.max_pixels


def config_of(checkpoint: Mapping[str, Any]) -> DictConfig:
    """The configuration that a checkpoint carries."""
    return OmegaConf.create(checkpoint[RECIPE]["config"])


def metrics(config: DictConfig, source: Source | None) -> CaptionMetrics:
    """The configured metrics; they read the training captions of the data set where one needs them."""
    training = (lambda: (texts for _, texts in captions_of(source.split("train")))) if source else None
    return part(config, "metrics", training_captions=training)


def _loss(config: DictConfig, tokenizer: Tokenizer, source: Source | None) -> Criterion:
    """The configured loss; a reward, if it has one, compares with the training captions of the data set."""
    if OmegaConf.select(config, "model.loss.reward") is None:
        return part(config, "model.loss")
    most = config.data.captions_per_image  # as of the training captions themselves
    training = (
        (lambda: ((id, texts[:most]) for id, texts in captions_of(source.split("train")))) if source else None
    )
    judge = part(config, "metrics.tokenizer")
    reward = part(
        config, "model.loss.reward", tokenizer=judge, training_captions=training, decode=tokenizer.decode
    )
    return part(config, "model.loss", reward=reward)


def assembled(
    config: DictConfig,
    encoder: Any,
    tokenizer: Tokenizer,
    source: Source | None,
    architecture: dict[str, Any] | None = None,
    **parts: Any,
) -> Captioner:
    """A model; a decoder whose sizes are those of files elsewhere has them from a checkpoint's recipe."""
    if "decoder" not in parts:
        known: dict[str, Any] = {"vocab_size": len(tokenizer.vocabulary), "memory_dim": encoder.out_dim}
        if architecture is not None and "architecture" in config.model.decoder:
            known["architecture"] = architecture
        parts["decoder"] = part(config, "model.decoder", **known)
    if "metrics" not in parts:
        parts["metrics"] = metrics(config, source)
    # Interpolations stay unresolved, so that a change of data.root reaches all that refers to it.
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("run_dir", "resume")])
    recipe = {
        "layout": LAYOUT,
        "config": without_secrets(OmegaConf.to_container(kept, resolve=False)),
        "vocabulary": tokenizer.saved,
    }
    if (architecture := getattr(parts["decoder"], "architecture", None)) is not None:
        recipe["architecture"] = architecture
    configured = {
        "encoder": encoder,
        "loss": _loss(config, tokenizer, source),
        "search": part(config, "search"),
        "tokenizer": tokenizer,
        "optimizer": part(config, "optimizer"),
        "learning_rates": dict(config.get("learning_rates") or {}),
        "layer_decay": config.layer_decay,
        "schedule": part(config, "schedule"),
        "scheduled_sampling": config.get("scheduled_sampling") or 0.0,
        "recipe": recipe,
    }
    return Captioner(**{**configured, **parts})
