"""The models of several checkpoints as one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from autocaption.build.data_parts import datamodule, source_of, view
from autocaption.build.model_parts import assembled, config_of, model_of
from autocaption.config import differences, has
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.sources import Source
from autocaption.data.stacked import Stacked
from autocaption.errors import UserError
from autocaption.models.captioner import RECIPE, Captioner
from autocaption.models.ensemble import EnsembleDecoder, EnsembleEncoder

OF_MEMBERS = ("model", "data.crop_share", "data.fit", "data.interpolation")  # keys


def from_checkpoints(
    config: DictConfig, checkpoints: Mapping[str, dict[str, Any]], source: Source | None = None
) -> tuple[CaptionDataModule, Captioner]:
    """Data and an ensemble of several checkpoints' models, each of which sees pictures as it was trained.

    Args:
        config: the first one's, possibly changed; what it changes of a model is changed of each.
        checkpoints: the checkpoints by path.
        source: another data set than the configured one.

    Raises:
        UserError: their vocabularies differ, or a change doesn't fit one of them.
    """
    require_one_vocabulary(checkpoints)
    configs = _changed([config_of(saved) for saved in checkpoints.values()], config)
    members = [_member(its, *named) for its, named in zip(configs, checkpoints.items(), strict=True)]
    views = [view(its, member.encoder) for its, member in zip(configs, members, strict=True)]
    first = members[0]
    encoder: Any = first.encoder
    stacked = Stacked(tuple(dict.fromkeys(views)))  # each once, however many members share it
    if len(stacked.transforms) > 1 or not all(_same_encoder(encoder, other.encoder) for other in members):
        encoder = EnsembleEncoder([one.encoder for one in members], [stacked.window(one) for one in views])
        config = OmegaConf.merge(config, {"data": {"features": None}})  # type: ignore[assignment]
    decoder = EnsembleDecoder([member.decoder for member in members])
    source = source or source_of(config)
    captioner = assembled(config, encoder, first.tokenizer, source, decoder=decoder)
    # Stored features, if any, are of the first encoder, which is then that of all.
    seen = views[0] if len(stacked.transforms) == 1 else stacked
    return datamodule(config, source, first.tokenizer, first.encoder, seen), captioner


def require_one_vocabulary(checkpoints: Mapping[str, Mapping[str, Any]]) -> None:
    """Find out whether checkpoints, by path, can be an ensemble as far as their words tell.

    Raises:
        UserError: one has another vocabulary than the first.
    """
    words = {path: saved[RECIPE]["vocabulary"] for path, saved in checkpoints.items()}
    first = next(iter(words))
    for path, its in words.items():
        if its != words[first]:
            raise UserError(
                f"{path} has another vocabulary than {first}; an ensemble's members are trained on the same "
                "captions, with the same tokenizer"
            )


def _member(config: DictConfig, path: str, checkpoint: dict[str, Any]) -> Captioner:
    try:
        return model_of(config, checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _changed(configs: Sequence[DictConfig], config: DictConfig) -> Sequence[DictConfig]:
    """The members' configurations with what `config` has changed of the first one's."""
    first = configs[0].copy()
    for key, (_, value) in differences(_resolved(first), _resolved(config)).items():
        for its in configs:
            if has(its, key) or not has(first, key):
                OmegaConf.update(its, key, value, force_add=True)
    return configs


def _resolved(config: DictConfig) -> DictConfig:
    """What defines a member, without references, which a configuration has or has no more."""
    values = {key: OmegaConf.select(config, key) for key in OF_MEMBERS}
    values["model"] = OmegaConf.to_container(values["model"], resolve=True)
    return OmegaConf.create(values)


def _same_encoder(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    pooled = [getattr(encoder, "pooling", None) for encoder in (one, other)]
    return (
        repr(one) == repr(other)
        and pooled[0] == pooled[1]
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )
