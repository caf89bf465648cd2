"""Configuration to objects. Beside train.py and eval.py, the only place that sees a DictConfig."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor

from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import CenterCrop, RandomCropFlip, Transform
from autocaption.errors import UserError
from autocaption.features.cache import FeatureCache
from autocaption.files import write_text
from autocaption.models.captioner import RECIPE, Captioner
from autocaption.models.ensemble import EnsembleDecoder, EnsembleEncoder
from autocaption.precision import fastest_precision, set_matmul_precision
from autocaption.runs.checkpoint_io import SafeCheckpointIO
from autocaption.runs.provenance import without_secrets


def from_config(config: DictConfig) -> tuple[CaptionDataModule, Captioner]:
    """Data and a new model, with pretrained encoder weights if the configuration asks for them."""
    source = instantiate(config.data.source)
    tokenizer = instantiate(config.tokenizer).fit(
        caption for image in source.split("train") for caption in image.captions
    )
    encoder = instantiate(config.model.encoder)
    return _datamodule(config, source, tokenizer, encoder), _captioner(config, encoder, tokenizer)


def from_checkpoint(config: DictConfig, checkpoint: dict[str, Any]) -> tuple[CaptionDataModule, Captioner]:
    """Data, and the model of a checkpoint with its vocabulary and weights.

    `config` is the checkpoint's, possibly changed (`with_overrides`).
    """
    captioner = model_of(config, checkpoint)
    source = instantiate(config.data.source)
    data = _datamodule(config, source, captioner.tokenizer, captioner.encoder)
    return data, captioner


def model_of(config: DictConfig, checkpoint: dict[str, Any]) -> Captioner:
    """The model of a checkpoint, without data.

    Raises:
        UserError: the weights don't fit the configured model.
    """
    tokenizer = instantiate(config.tokenizer, vocabulary=checkpoint[RECIPE]["vocabulary"])
    # The checkpoint holds the encoder's weights, so pretrained ones are not needed.
    unweighted = {"pretrained": False, "weights": None} if "pretrained" in config.model.encoder else {}
    captioner = _captioner(config, instantiate(config.model.encoder, **unweighted), tokenizer)
    try:
        captioner.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(f"the checkpoint's weights don't fit the configured model: {reason}") from None
    return captioner


def from_checkpoints(
    config: DictConfig, checkpoints: Mapping[str, dict[str, Any]]
) -> tuple[CaptionDataModule, Captioner]:
    """Data and an ensemble of the models of several checkpoints, each built as it was trained.

    Args:
        config: the configuration of data, search and metrics.
        checkpoints: the checkpoints by path.

    Raises:
        UserError: their vocabularies, picture sizes or crops differ.
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
        if (other.encoder.image_size, its.data.crop) != (first.encoder.image_size, configs[0].data.crop):
            raise UserError(f"{path} takes pictures of another size or crop than {name}")
    encoder: Any = first.encoder
    if not all(_same_encoder(encoder, other.encoder) for other in members):
        encoder = EnsembleEncoder([member.encoder for member in members])
        config = OmegaConf.merge(config, {"data": {"features": None}})  # type: ignore[assignment]
    decoder = EnsembleDecoder([member.decoder for member in members])
    captioner = _captioner(config, encoder, first.tokenizer, decoder)
    return _datamodule(config, instantiate(config.data.source), first.tokenizer, encoder), captioner


def _same_encoder(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    pooled = [getattr(encoder, "pooling", None) for encoder in (one, other)]
    return (
        repr(one) == repr(other)
        and pooled[0] == pooled[1]
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )


def for_pictures(checkpoint: dict[str, Any]) -> tuple[Captioner, Transform]:
    """The model of a checkpoint, ready to caption, and the transform for its pictures."""
    config = config_of(checkpoint)
    captioner = model_of(config, checkpoint).eval()
    return captioner, CenterCrop(captioner.encoder.image_size, config.data.crop)


def config_of(checkpoint: dict[str, Any]) -> DictConfig:
    """The configuration that a checkpoint carries."""
    return OmegaConf.create(checkpoint[RECIPE]["config"])


def trainer(config: DictConfig, captioner: Captioner) -> pl.Trainer:
    """The Trainer with the configured loggers and callbacks; compiles the model if configured."""
    loggers = [instantiate(part) for part in (config.get("logger") or {}).values()]
    for logger in loggers:
        logger.log_hyperparams(_plain(config))
    callbacks = [instantiate(part) for part in (config.get("callbacks") or {}).values()]
    if not loggers:  # it refuses to run without one
        callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
    settings: Any = OmegaConf.to_container(config.trainer, resolve=True)
    if settings.pop("compile", False):
        captioner.encoder.compile()  # type: ignore[attr-defined]
        captioner.decoder.compile(dynamic=True)  # type: ignore[attr-defined]  # lengths vary
    if (matmul := settings.pop("float32_matmul_precision", None)) is not None:
        set_matmul_precision(matmul)
    if settings.get("sync_batchnorm") and settings["accelerator"] == "cpu":
        raise UserError("trainer.sync_batchnorm=true works on GPUs only; take trainer.sync_batchnorm=false")
    if settings["precision"] == "auto":
        settings["precision"] = fastest_precision(settings["accelerator"])
    return instantiate(
        settings,
        logger=loggers,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
        default_root_dir=config.run_dir,
        _convert_="all",
    )


def save_config(config: DictConfig, path: Path) -> None:
    """Write the resolved configuration, without secrets."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(_plain(config))))


def _plain(config: DictConfig) -> dict[str, Any]:
    return without_secrets(OmegaConf.to_container(config, resolve=True))


def _datamodule(config: DictConfig, source: Any, tokenizer: Tokenizer, encoder: Any) -> CaptionDataModule:
    data, workers = config.data, _workers(config)
    evaluation = CenterCrop(encoder.image_size, data.crop)
    training = RandomCropFlip(encoder.image_size, data.augment_crop) if data.augment else evaluation
    on_gpu = config.trainer.accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    features = None
    if data.features == "cache":
        device = "cuda" if on_gpu else "cpu"
        features = FeatureCache(data.features_folder, encoder, data.batch_size, workers, device)
    elif data.features is not None:
        raise UserError(f"data.features={data.features}: take `cache`, or null to read pictures each time")
    return CaptionDataModule(
        source=source,
        tokenizer=tokenizer,
        training_transform=training,
        evaluation_transform=evaluation,
        batch_size=data.batch_size,
        num_workers=workers,
        seed=config.seed,
        split=data.split,
        check_images=data.check_images,
        features=features,
        feature_views=data.feature_views,
        captions_per_image=data.get("captions_per_image"),
    )


def _workers(config: DictConfig) -> int:
    """`data.num_workers`; for `auto`, the cores of this process, shared by the devices of this machine."""
    if config.data.num_workers != "auto":
        return config.data.num_workers
    devices = config.trainer.devices if isinstance(config.trainer.devices, int) else 1
    return min(len(os.sched_getaffinity(0)) // max(devices, 1), 8)


def _captioner(config: DictConfig, encoder: Any, tokenizer: Tokenizer, decoder: Any = None) -> Captioner:
    model = config.model
    if decoder is None:
        sizes = {"vocab_size": len(tokenizer.vocabulary), "memory_dim": encoder.out_dim}
        decoder = instantiate(model.decoder, **sizes)
    # Interpolations stay unresolved, so that a change of data.root reaches all that refers to it.
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("run_dir", "resume")])
    recipe = {
        "config": without_secrets(OmegaConf.to_container(kept, resolve=False)),
        "vocabulary": tokenizer.vocabulary,
    }
    return Captioner(
        encoder=encoder,
        decoder=decoder,
        loss=instantiate(model.loss),
        search=instantiate(config.search),
        tokenizer=tokenizer,
        metrics=instantiate(config.metrics),
        optimizer=instantiate(config.optimizer),
        learning_rates=dict(config.get("learning_rates") or {}),
        schedule=instantiate(config.schedule),
        scheduled_sampling=config.get("scheduled_sampling") or 0.0,
        recipe=recipe,
    )
