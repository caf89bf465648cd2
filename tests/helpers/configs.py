"""Compositions of conf/."""

import functools

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers import CONF

CHOICES = sorted(
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in CONF.glob("*/**/*.yaml")
    if file.parent.name not in ("hydra", "launcher")  # its resolver is the commands'
    and file.stem != "base"  # what other choices share
    and file.parent.name != "extra"  # added to other callbacks, not chosen
    and file.parent.parent.name != "sweep"  # they exist beside a sweep only; tests/sweep has them
)

GIVEN = ("data.root=/data", "run_dir=/run")  # what has no value before a run


@functools.cache  # Hydra takes a tenth of a second
def composed(*overrides, name="train"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, list(overrides))


def composed_with(values, *overrides):
    """A composition with values by key: those of one test, for which Hydra need not compose again."""
    config = composed(*overrides).copy()
    for key, value in values.items():
        OmegaConf.update(config, key, value, force_add=True)
    return config


def plain(config):
    return OmegaConf.to_container(config, resolve=False)
