"""Configuration to objects. Beside train.py and eval.py, the only place that sees a DictConfig."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from torchmetrics import MetricCollection

from autocaption.checks import as_path, choice, number, whole
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.manifest import Manifest
from autocaption.data.pictures import WithoutBroken
from autocaption.data.sources import Source
from autocaption.data.stacked import Stacked
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import Augmented, Square, Transform, View
from autocaption.errors import UserError
from autocaption.features.cache import FeatureCache
from autocaption.files import write_text
from autocaption.machine import cores
from autocaption.metrics.caption_metrics import CaptionMetrics
from autocaption.models.captioner import RECIPE, Captioner
from autocaption.models.ensemble import EnsembleDecoder, EnsembleEncoder
from autocaption.models.protocols import Criterion
from autocaption.models.weights import load_weights
from autocaption.precision import Shape, autocast_type, devices_of, fastest_precision, set_matmul_precision
from autocaption.ranks import is_first_rank
from autocaption.runs import checkpoint as checkpoints
from autocaption.runs.checkpoint import LAYOUT
from autocaption.runs.checkpoint_io import SafeCheckpointIO, keep_within
from autocaption.runs.provenance import without_secrets
from autocaption.slurm import cluster_environment
from autocaption.trainer_settings import require_settings

log = logging.getLogger(__name__)

# Of usual data and encoders, for the sizes of a step's products.
VOCABULARY, MEMORY_DIM, TOKENS = 3000, 1280, 55  # tokens of an image's five captions
MOST_TOKENS = 256  # more take longer, and are as fast


def from_config(config: DictConfig) -> tuple[CaptionDataModule, Captioner]:
    """Data and a new model, with pretrained encoder weights if the configuration asks for them."""
    if "reward" in config.model.loss and is_first_rank():
        log.warning(
            "A new model samples no captions worth a reward; start from a trained one with init_from=PATH"
        )
    source = source_of(config)
    tokenizer = _part(config, "tokenizer").fit(
        caption for image in source.split("train") for caption in image.captions
    )
    encoder = _part(config, "model.encoder")
    return _datamodule(config, source, tokenizer, encoder), _captioner(config, encoder, tokenizer, source)


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
    data = _datamodule(config, source, captioner.tokenizer, captioner.encoder)
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
    tokenizer = _part(config, "tokenizer", vocabulary=checkpoint[RECIPE]["vocabulary"])
    encoder = _part(_without_pretrained(config), "model.encoder")
    captioner = _captioner(config, encoder, tokenizer, source, **parts)
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


def from_checkpoints(
    config: DictConfig, checkpoints: Mapping[str, dict[str, Any]], source: Source | None = None
) -> tuple[CaptionDataModule, Captioner]:
    """Data and an ensemble of the models of several checkpoints, each built as it was trained.

    Args:
        config: the configuration of data, search and metrics.
        checkpoints: the checkpoints by path.
        source: another data set than the configured one.

    Raises:
        UserError: their vocabularies, or the pictures that they take, differ.
    """
    configs = [config_of(saved) for saved in checkpoints.values()]
    members = [model_of(*pair) for pair in zip(configs, checkpoints.values(), strict=True)]
    first, name = members[0], next(iter(checkpoints))
    for path, other, its in zip(checkpoints, members, configs, strict=True):
        if other.tokenizer.vocabulary != first.tokenizer.vocabulary:
            raise UserError(
                f"{path} has another vocabulary ({len(other.tokenizer.vocabulary)} words) than {name} "
                f"({len(first.tokenizer.vocabulary)}); an ensemble's members are trained on the same captions"
            )
        if _view(its, other.encoder) != _view(configs[0], first.encoder):
            raise UserError(f"{path} takes pictures of another size or crop than {name}")
    encoder: Any = first.encoder
    if not all(_same_encoder(encoder, other.encoder) for other in members):
        encoder = EnsembleEncoder([member.encoder for member in members])
        config = OmegaConf.merge(config, {"data": {"features": None}})  # type: ignore[assignment]
    decoder = EnsembleDecoder([member.decoder for member in members])
    source = source or source_of(config)
    captioner = _captioner(config, encoder, first.tokenizer, source, decoder=decoder)
    return _datamodule(config, source, first.tokenizer, encoder), captioner


def _same_encoder(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    pooled = [getattr(encoder, "pooling", None) for encoder in (one, other)]
    return (
        repr(one) == repr(other)
        and pooled[0] == pooled[1]
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )


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
        path: a file of a run's checkpoints/.
        parts: arguments of Captioner in place of the configured ones.
    """
    saved = checkpoints.load(path)
    config = config_of(saved)
    later: Any = _Later(config)
    return model_of(config, saved, later, **parts)


def for_pictures(checkpoint: dict[str, Any]) -> tuple[Captioner, View, int]:
    """The model of a checkpoint, ready to caption, the transform for its pictures, and their most pixels."""
    config = config_of(checkpoint)
    # Without metrics, which may want Java or files of the machine that trained it.
    captioner = model_of(config, checkpoint, metrics=MetricCollection([])).eval()
    return captioner, _view(config, captioner.encoder), config.data.max_pixels


def config_of(checkpoint: dict[str, Any]) -> DictConfig:
    """The configuration that a checkpoint carries."""
    return OmegaConf.create(checkpoint[RECIPE]["config"])


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
    loggers = _parts(config.get("logger"))
    for logger in loggers:
        logger.log_hyperparams(_plain(config))
    callbacks = _parts(config.get("callbacks"))
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint):
            keep_within(callback, Path(config.run_dir) / "checkpoints")
        if isinstance(callback, EarlyStopping):  # which compares it after the first validation
            whole("callbacks.early_stopping.patience", callback.patience, 0)
    if not loggers:  # it refuses to run without one
        callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
    return instantiate(
        settings,
        logger=loggers,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO(), *cluster_environment(settings["devices"], settings["num_nodes"])],
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
        default_root_dir=config.run_dir,
        _convert_="all",
    )


def precision(config: DictConfig) -> str:
    """`trainer.precision`; for `auto`, the faster one at the products of the decoder's weights.

    Training and evaluation write the answer into their configuration (experiment.py), and so into
    checkpoints, from which it is kept.
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
        decoder = _part(config, "model.decoder", vocab_size=VOCABULARY, memory_dim=MEMORY_DIM)
    rows = min(config.data.batch_size * TOKENS, MOST_TOKENS)
    weights = (weight.shape for weight in decoder.parameters() if weight.dim() == 2)
    return frozenset((rows, k, n) for n, k in weights)


def compiled(config: DictConfig, captioner: Captioner) -> Captioner:
    """The model, compiled if `trainer.compile` says so."""
    if config.trainer.get("compile"):
        captioner.encoder.compile()  # type: ignore[attr-defined]
        captioner.decoder.compile(dynamic=True)  # type: ignore[attr-defined]  # lengths vary
    return captioner


def _part(config: DictConfig, key: str, **arguments: Any) -> Any:
    """The object of a part that nothing works without.

    Raises:
        UserError: the configuration has no such part.
    """
    part = OmegaConf.select(config, key)
    if not OmegaConf.is_dict(part) or "_target_" not in part:
        raise UserError(f"the configuration has no {key}, which is needed; `--cfg job` shows what it has")
    return instantiate(part, **arguments)


def _parts(group: DictConfig | None) -> list[Any]:
    """The objects of a group; GROUP.NAME=null leaves one out."""
    return [instantiate(part) for part in (group or {}).values() if part is not None]


def save_config(config: DictConfig, path: Path) -> None:
    """Write the resolved configuration, without secrets."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(_plain(config))))


def _plain(config: DictConfig) -> dict[str, Any]:
    return without_secrets(OmegaConf.to_container(config, resolve=True))


def source_of(config: DictConfig) -> Source:
    """The data set."""
    whole("data.max_pixels", config.data.max_pixels, 1)
    source = _part(config, "data.source")
    on_broken = choice("data.on_broken", config.data.on_broken, ("stop", "skip"))
    return WithoutBroken(source, _manifest(config)) if on_broken == "skip" else source


def _manifest(config: DictConfig) -> Manifest:
    file = config.data.manifest
    return Manifest(as_path("data.manifest", file) if file else None)


def _datamodule(config: DictConfig, source: Any, tokenizer: Tokenizer, encoder: Any) -> CaptionDataModule:
    data = config.data
    manifest = _manifest(config)
    evaluation, augmented = _view(config, encoder), _augmented(config, encoder)
    features = None
    if data.features == "cache":
        if augmented and not data.feature_views and is_first_rank():
            log.warning(
                "data.augment has no effect on stored features; store augmented views of each picture with "
                "data.feature_views=N, or choose data/augment=none"
            )
        features = FeatureCache(
            folder=data.features_folder,
            encoder=encoder,
            batch_size=data.batch_size,
            devices=devices_of(config.trainer.accelerator, config.trainer.devices),
            manifest=manifest,
            dtype=data.features_dtype,
            autocast=autocast_type(precision(config)),
        )
    elif data.features is not None:
        raise UserError(f"data.features={data.features}: take `cache`, or null to read pictures each time")
    return CaptionDataModule(
        source=source,
        tokenizer=tokenizer,
        training_transform=augmented or evaluation,
        evaluation_transform=evaluation,
        batch_size=data.batch_size,
        num_workers=_workers(config),
        seed=config.seed,
        split=data.split,
        check_images=data.check_images and not isinstance(source, WithoutBroken),
        features=features,
        feature_views=data.feature_views,
        captions_per_image=data.captions_per_image,
        manifest=manifest,
    )


def _view(config: DictConfig, encoder: Any) -> View:
    """How pictures become what an encoder takes; one below the other for an encoder of several sources."""
    sources = getattr(encoder, "sources", None)
    if sources is None:
        return _square(config, encoder)
    return Stacked(tuple(_square(config, one) for one in sources.values()))


def _square(config: DictConfig, encoder: Any) -> Square:
    """How pictures become a square: as an encoder's weights want it, but for what `data` says."""
    keys = ("crop_share", "fit", "interpolation")
    chosen = {key: getattr(encoder, key) if config.data[key] is None else config.data[key] for key in keys}
    colour = tuple(round(255 * mean) for mean in encoder.mean) if chosen["fit"] == "pad" else None
    return Square(encoder.image_size, **chosen, colour=colour)


def _augmented(config: DictConfig, encoder: Any) -> Transform | None:
    """The transform of `data.augment`; None where it is empty."""
    data = config.data
    if (sources := getattr(encoder, "sources", None)) is not None:
        every = [_augmented(config, one) for one in sources.values()]
        found = tuple(one for one in every if one is not None)
        return Stacked(found) if found else None
    if not OmegaConf.is_list(data.augment):
        raise UserError(f"data.augment={data.augment}: give a list of transforms, or data/augment=none")
    if data.image_size is not None:
        raise UserError(
            f"data.image_size={data.image_size}: it is the encoder's, set with model.encoder.image_size"
        )
    crop_share = number("data.augment_crop", data.augment_crop, above=0, at_most=1)
    sized = OmegaConf.merge(config, {"data": {"image_size": encoder.image_size}})
    settings = OmegaConf.to_yaml(sized.data.augment, resolve=True)
    transforms = instantiate(sized.data.augment, _convert_="all")
    square = replace(_square(config, encoder), crop_share=crop_share)
    return Augmented(square, settings, transforms) if transforms else None


def _workers(config: DictConfig) -> int:
    """`data.num_workers`; for `auto`, the cores of this process, shared by the devices of this machine."""
    if config.data.num_workers != "auto":
        return config.data.num_workers
    devices = config.trainer.devices if isinstance(config.trainer.devices, int) else 1
    return min(cores() // max(devices, 1), 8)


def metrics(config: DictConfig, source: Source | None) -> CaptionMetrics:
    """The configured metrics; they read the training captions of the data set where one needs them."""
    training = (lambda: (image.captions for image in source.split("train"))) if source else None
    return _part(config, "metrics", training_captions=training)


def _loss(config: DictConfig, tokenizer: Tokenizer, source: Source | None) -> Criterion:
    """The configured loss; a reward, if it has one, compares with the training captions of the data set."""
    if OmegaConf.select(config, "model.loss.reward") is None:
        return _part(config, "model.loss")
    training = (lambda: ((image.id, image.captions) for image in source.split("train"))) if source else None
    judge = _part(config, "metrics.tokenizer")
    reward = _part(
        config, "model.loss.reward", tokenizer=judge, training_captions=training, decode=tokenizer.decode
    )
    return _part(config, "model.loss", reward=reward)


def _captioner(
    config: DictConfig, encoder: Any, tokenizer: Tokenizer, source: Source | None, **parts: Any
) -> Captioner:
    if "decoder" not in parts:
        sizes = {"vocab_size": len(tokenizer.vocabulary), "memory_dim": encoder.out_dim}
        parts["decoder"] = _part(config, "model.decoder", **sizes)
    if "metrics" not in parts:
        parts["metrics"] = metrics(config, source)
    # Interpolations stay unresolved, so that a change of data.root reaches all that refers to it.
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("run_dir", "resume")])
    recipe = {
        "layout": LAYOUT,
        "config": without_secrets(OmegaConf.to_container(kept, resolve=False)),
        "vocabulary": tokenizer.saved,
    }
    configured = {
        "encoder": encoder,
        "loss": _loss(config, tokenizer, source),
        "search": _part(config, "search"),
        "tokenizer": tokenizer,
        "optimizer": _part(config, "optimizer"),
        "learning_rates": dict(config.get("learning_rates") or {}),
        "layer_decay": config.layer_decay,
        "schedule": _part(config, "schedule"),
        "scheduled_sampling": config.get("scheduled_sampling") or 0.0,
        "recipe": recipe,
    }
    return Captioner(**{**configured, **parts})
