"""The data of a configuration: source, transforms and datamodule."""

import logging
from dataclasses import replace
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from autocaption.build.parts import part
from autocaption.build.trainer_parts import precision
from autocaption.checks import as_path, choice, number, whole
from autocaption.data.broken_pictures import WithoutBroken
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.manifest import Manifest
from autocaption.data.sources import Source
from autocaption.data.stacked import Stacked
from autocaption.data.tokenizer import Tokenizer
from autocaption.data.transforms import Augmented, Square, Transform, View
from autocaption.errors import UserError
from autocaption.features.cache import FeatureCache
from autocaption.machine import cores
from autocaption.precision import autocast_type, devices_of
from autocaption.ranks import is_first_rank

log = logging.getLogger(__name__)


def source_of(config: DictConfig) -> Source:
    """The data set."""
    whole("data.max_pixels", config.data.max_pixels, 1)
    source = part(config, "data.source")
    on_broken = choice("data.on_broken", config.data.on_broken, ("stop", "skip"))
    return WithoutBroken(source, _manifest(config)) if on_broken == "skip" else source


def _manifest(config: DictConfig) -> Manifest:
    file = config.data.manifest
    return Manifest(as_path("data.manifest", file) if file else None)


def datamodule(
    config: DictConfig, source: Any, tokenizer: Tokenizer, encoder: Any, seen: View | None = None
) -> CaptionDataModule:
    """The data of a model with this tokenizer and encoder.

    Args:
        config: the model's.
        source: the data set.
        tokenizer: the model's.
        encoder: the model's.
        seen: how pictures are evaluated, where that isn't as the encoder wants them.

    Raises:
        UserError: a value of `data` is none that it takes.
    """
    data = config.data
    manifest = _manifest(config)
    evaluation, augmented = seen or view(config, encoder), _augmented(config, encoder)
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


def view(config: DictConfig, encoder: Any) -> View:
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
    workers = config.data.num_workers
    if workers == "auto":
        devices = config.trainer.devices if isinstance(config.trainer.devices, int) else 1
        return min(cores() // max(devices, 1), 8)
    if isinstance(workers, str):
        raise UserError(f"data.num_workers={workers}: take auto or a whole number")
    return workers
