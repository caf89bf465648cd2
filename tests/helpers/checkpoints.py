"""Checkpoints of tiny models that say something, without training."""

import torch
from omegaconf import OmegaConf

from autocaption import build
from helpers.commands import TINY
from helpers.configs import composed
from helpers.decoders import LANGUAGE_MODEL, require_extra

NARROW = {"width": 16, "heads": 2, "layers": 1, "attention_dim": 8, "embed_dim": 16, "hidden_dim": 16}
NARROW |= LANGUAGE_MODEL


def save_tiny(folder, decoder="lstm", *changes, **extra):
    """(the checkpoint's path, the model, its data); the weights are random, and a decoder that attends can.

    Args:
        folder: where to.
        decoder: a file of conf/model/decoder.
        changes: overrides.
        extra: entries of the checkpoint.
    """
    require_extra(decoder)
    torch.manual_seed(0)
    chosen = [f"{word.partition('=')[0].replace('/', '.')}." for word in changes]  # have values of their own
    common = [word for word in TINY if not word.startswith(("model.decoder.", *chosen))]
    grid = () if decoder == "lstm" else ("model.encoder.pooling=grid",)
    words = (*common, f"model/decoder={decoder}", *grid, "logger=none", "run_dir=/run", *changes)
    config = composed(*words).copy()
    given = {word.partition("=")[0] for word in changes}
    for key, value in NARROW.items():
        if key in config.model.decoder and f"model.decoder.{key}" not in given:
            OmegaConf.update(config, f"model.decoder.{key}", value, force_add=True)
    data, captioner = build.from_config(config)
    for parameter in captioner.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    path = folder / "some.ckpt"
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict(), **extra}, path)
    return path, captioner.eval(), data


def pictures_of(data, split="test"):
    return [data.source.read(image) for image in data.source.split(split)]
