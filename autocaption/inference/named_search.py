"""A search by its name in conf/search, for a model that is already trained."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autocaption.checks import whole
from autocaption.errors import UserError, first_line
from autocaption.files import conf_folder

WIDTHS = ("beam_size", "candidates", "samples")  # the keys that say how many captions a search gives an image


def named_search(config: DictConfig, name: str | None, k: int, settings: Mapping[str, Any]) -> Any:
    """A search that gives at least k captions an image.

    One that gives several is widened to k, unless `settings` say how many.

    Args:
        config: the model's configuration, to which a search may refer.
        name: a file of conf/search, without `.yaml`; None for the search of `config`.
        k: the number of captions wanted.
        settings: values of the search's keys, over its own.

    Raises:
        UserError: there is no such search or key, a value is refused, or it gives fewer captions.
    """
    chosen = config.search if name is None else _of_file(name)
    title = "the checkpoint's search" if name is None else f"search={name}"
    known = [key for key in chosen if key != "_target_"]
    for key in settings:
        if key not in known:
            raise UserError(f"{title} has no setting {key}; it has {', '.join(map(str, known))}")
    given = {key: value.item() if isinstance(value, np.generic) else value for key, value in settings.items()}
    values = {**OmegaConf.to_container(chosen, resolve=False), **given}  # type: ignore[dict-item]
    try:
        return _wide_enough(values, config, title, k, settings)
    except OmegaConfBaseException as error:  # no number or text, or a reference to nothing
        raise UserError(f"{title}: {first_line(error)}") from None
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def _wide_enough(
    values: dict[Any, Any], config: DictConfig, title: str, k: int, settings: Mapping[str, Any]
) -> Any:
    # A node of the configuration that it is no part of: only so do its references reach `config`.
    search: Any = DictConfig(values, key="search", parent=config)
    width = next((key for key in WIDTHS if key in search), None)
    if width is not None and width not in settings and search[width] < k:
        groups = whole("search.groups", search.get("groups", 1), 1)
        search[width] = -(-k // groups) * groups
    given = search[width] if width is not None else 1
    if isinstance(given, int) and given < k:
        advice = f"raise {width}" if width else "take search='beam' or 'sample'"
        raise UserError(f"{title} gives {given} of the {k} captions that k={k} asks for; {advice}")
    return instantiate(search)


def search_names() -> list[str]:
    """What there is in conf/search to choose from."""
    return sorted(file.stem for file in _folder().glob("*.yaml") if file.stem != "base")


def _folder() -> Path:
    return conf_folder() / "search"


def _of_file(name: str) -> DictConfig:
    if name not in search_names():
        raise UserError(f"there is no search={name}; take {', '.join(search_names())}")
    return _composed(_folder(), name)


@functools.cache  # a server asks for every picture
def _composed(folder: Path, name: str) -> DictConfig:
    """A file and the files beside it that its defaults list names; Hydra's own way is not for threads."""
    own: Any = OmegaConf.load(folder / f"{name}.yaml")
    defaults = own.pop("defaults", ["_self_"])
    parts = [own if one == "_self_" else _composed(folder, one) for one in defaults]
    return OmegaConf.merge(*parts)  # type: ignore[return-value]
