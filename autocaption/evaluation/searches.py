"""The searches of a comparison, each composed as if the command line had chosen it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from autocaption.config import has, require_values, with_optional_values
from autocaption.errors import UserError
from autocaption.files import conf_folder


def with_searches(
    config: DictConfig, overrides: Sequence[str]
) -> Mapping[str, tuple[DictConfig, Sequence[str]]]:
    """{search: (configuration, its overrides)} of each search that `searches` names.

    An override of a search's value (search.beam_size=5) counts for those of the searches that have it.

    Args:
        config: of eval.py; `searches` are choices of the group `search`, or null for the one that it has.
        overrides: of the command line.

    Raises:
        UserError: no search has a value that the command line changes, or one is named twice.
    """
    if config.searches is None:
        return {"": (config, overrides)}
    names = [config.searches] if isinstance(config.searches, str) else [str(name) for name in config.searches]
    if not names or len(set(names)) < len(names):
        raise UserError(f"searches=[{','.join(names)}]: take one or more, each once, such as [greedy,beam]")
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if any(one.key_or_group == "search" for one in parsed):
        raise UserError("search and searches are both given; name all in searches=[...]")
    values = {str(one.input_line): one for one in parsed if one.key_or_group.startswith("search.")}
    others, used, found = [line for line in overrides if line not in values], set[str](), {}
    with _config_loader() as loader:
        for name in names:
            given = [*others, f"search={name}"]
            chosen = loader.load_configuration("eval", given, RunMode.RUN)
            own = [line for line, one in values.items() if one.is_add() or has(chosen, one.key_or_group)]
            used.update(own)
            composed = config.copy()
            if own:
                chosen = loader.load_configuration("eval", [*given, *own], RunMode.RUN)
            composed.search = chosen.search
            require_values(composed)
            found[name] = (with_optional_values(composed), [*given, *own])
    if unused := next((line for line in values if line not in used), None):
        raise UserError(f"{unused}: none of the searches {', '.join(names)} has this value")
    return found


@contextmanager
def _config_loader() -> Iterator[ConfigLoader]:
    """Hydra's loader of conf/: within a Hydra job its own; a launched process makes one."""
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance().config_loader()
        return
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
