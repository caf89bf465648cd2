"""A composed configuration: what it must hold, and how a checkpoint's is changed by a command line."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from autocaption.errors import UserError
from autocaption.runs.kept_secrets import restored, secrets_of
from autocaption.runs.provenance import HIDDEN, without_secrets

_ABSENT = object()
_RESOLVER = re.compile(r"\$\{[^{}]*:")  # ${now:...}: only this process has its resolver
MISSING, _ENV = "???", "${oc.env:"  # data.root: ${oc.env:AUTOCAPTION_DATA,???}

# What a resumed run cannot change, and what is no change of the run.
FIXED_ON_RESUME = (
    *("model.", "tokenizer.", "data.source.", "data.crop_share", "data.fit", "data.interpolation"),
    *("seed", "init_from", "learning_rates", "layer_decay"),
)
NOT_CHANGED = ("run_dir", "resume", "runs_dir", "where_present")
# What a checkpoint decides about a model, unless the command line says otherwise.
MODEL_KEYS = (
    "data",
    "tokenizer",
    "model",
    "search",
    "metrics",
    "trainer.precision",
    "trainer.float32_matmul_precision",
)


def with_overrides(
    base: DictConfig, composed: DictConfig, overrides: Sequence[str], keys: Sequence[str] | None = None
) -> DictConfig:
    """A checkpoint's configuration with the changes of the command line.

    Changes are copied from the composed configuration: `search=beam` replaces all of `search`,
    `data.root=DIR` that value. A choice that affects the whole configuration (`experiment=...`) replaces
    all of it.

    Args:
        base: the checkpoint's configuration.
        composed: what Hydra composed from the command line.
        overrides: the command line's overrides.
        keys: the keys to take from `base`; None for all of them.
    """
    changes: Any = OverridesParser.create().parse_overrides(list(overrides))
    recipes = [change for change in changes if change.key_or_group in ("experiment", "debug")]
    if recipes and keys is None:
        return composed
    new: dict = OmegaConf.to_container(composed, resolve=False)  # type: ignore[assignment]
    old: dict = OmegaConf.to_container(base, resolve=False)  # type: ignore[assignment]
    whole = [key for key in keys or old if key in old]
    merged = copy.deepcopy({**new, **{key: old[key] for key in whole}})
    for key in set(keys or ()) - set(whole):
        if OmegaConf.select(base, key) is not None:
            _copy(old, merged, key.split("."), delete=False)
    for change in changes:
        if change in recipes:  # what it sets beside the model is in the composed configuration
            continue
        path = change.key_or_group.replace("/", ".").split(".")
        if path[0] not in {**new, **old}:  # as of cluster=gpu, which is about jobs and not about the run
            continue
        _copy(new, merged, path, change.is_delete())
    return OmegaConf.create(merged)


def replayed(
    config_name: str, earlier: Sequence[str], overrides: Sequence[str], alone: DictConfig
) -> DictConfig:
    """The configuration of earlier overrides with those of this command line on top.

    So a group that is chosen on resume (`trainer=ddp`) keeps the values that the run was started with
    (`trainer.max_epochs=3`). Within a Hydra job only.

    Args:
        config_name: the file in conf/.
        earlier: the overrides of earlier attempts.
        overrides: those of the command line.
        alone: what they give without the earlier ones. It is enough where they set values only, while the
            earlier ones chose a file that is not found now, as of a folder that --config-dir named.

    Raises:
        UserError: they choose a group, and such a file is not found.
    """
    loader = GlobalHydra.instance().config_loader()
    try:
        config = loader.load_configuration(config_name, [*earlier, *overrides], RunMode.RUN)
    except MissingConfigException as error:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        groups = [one.input_line for one in parsed if loader.get_group_options(one.key_or_group)]
        if not groups:
            return alone
        raise UserError(
            f"{groups[0]}: a choice goes on top of those that the run was started with, of which "
            f"{error.missing_cfg_file} is not found; give the --config-dir of its first command again"
        ) from error
    with open_dict(config):
        config.pop("hydra")
    return config


def changes_on_resume(before: DictConfig, after: DictConfig) -> dict[str, list[Any]]:
    """{key: [value before, value after]} of what a resumed run changes.

    Raises:
        UserError: names a change that a checkpoint cannot follow.
    """
    changes = differences(before, after)
    for key in list(changes):
        if key.split(".")[0] in NOT_CHANGED:
            del changes[key]
        elif key.startswith(FIXED_ON_RESUME):
            was, now = changes[key]
            raise UserError(
                f"resume cannot change {key} (from {was} to {now}); "
                "start a new run from the checkpoint's weights with init_from=CHECKPOINT"
            )
    return changes


def differences(one: DictConfig, other: DictConfig) -> dict[str, list[Any]]:
    """{key: [value of one, value of the other]} of all that differs."""
    # Without secrets, since a checkpoint has none: one that is given again is no change, and isn't printed.
    ours, theirs = (
        dict(_flat(without_secrets(OmegaConf.to_container(config, resolve=False)), ""))
        for config in (one, other)
    )
    return {
        key: [ours.get(key), theirs.get(key)]
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    }


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything in nested dicts; nothing of an empty one."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _copy(source: dict, target: dict, path: list[str], delete: bool) -> None:
    """Copy the value at a path of nested dicts and lists, or delete it in the target."""
    from_node: Any = source
    to_node: Any = target
    for name in path[:-1]:
        if isinstance(to_node, list):
            from_node, to_node = from_node[int(name)], to_node[int(name)]
        else:
            from_node, to_node = from_node.get(name, {}), to_node.setdefault(name, {})
    last: Any = int(path[-1]) if isinstance(to_node, list) else path[-1]
    if not delete:
        to_node[last] = from_node[last]
    elif isinstance(to_node, list) or last in to_node:
        del to_node[last]


def with_secrets(config: DictConfig, composed: DictConfig, kept: Mapping[str, Any]) -> DictConfig:
    """A checkpoint's configuration with its secrets, of which it holds none.

    Args:
        config: the checkpoint's, possibly changed.
        composed: what Hydra composed, which may have some from a file of this machine (conf/local).
        kept: {key: secret} of the run (runs/kept_secrets.py), which count first.
    """
    own: Any = OmegaConf.to_container(composed, resolve=False)
    return OmegaConf.create(restored(OmegaConf.to_container(config, resolve=False), kept, secrets_of(own)))


def require_secrets(config: DictConfig) -> None:
    """Check that no secret has been replaced by the word that stands for it in all that is kept.

    Raises:
        UserError: names the first one.
    """
    for key, value in _flat(OmegaConf.to_container(config, resolve=False), ""):
        if HIDDEN in str(value):
            raise UserError(
                f"{key} is a secret, kept only while its run can be resumed; give it again: ++{key}=VALUE "
                "(${oc.env:NAME} is kept, and read from the environment)"
            )


def require_values(config: DictConfig) -> None:
    """Check that every key has a value; the `hydra` node is Hydra's.

    Raises:
        UserError: names the first key without one, and the environment variable that may give it.
    """
    for key, text in _flat(OmegaConf.to_container(config, resolve=False), ""):
        if key.startswith("hydra.") or not isinstance(text, str):
            continue
        if text == MISSING and key.endswith("._target_"):  # search=base
            group = key.removesuffix("._target_").replace(".", "/")
            raise UserError(
                f"{group}=base is only what its choices share; take one of those that --help lists"
            )
        if text == MISSING:
            raise UserError(f"no value for {key}; give it with {key}=VALUE")
        optional = text.startswith(_ENV) and text.endswith(f",{MISSING}}}")
        if optional and OmegaConf.select(config, key) in (None, MISSING):
            variable = text.removeprefix(_ENV).partition(",")[0]
            raise UserError(f"no value for {key}; give it with {key}=VALUE, or set {variable}")


def has(config: DictConfig, key: str) -> bool:
    """Whether a configuration has a key, null included."""
    return OmegaConf.select(config, key, default=_ABSENT) is not _ABSENT


def with_optional_values(config: DictConfig) -> DictConfig:
    """The configuration with the values of `where_present` whose keys it has."""
    changed = config.copy()
    for key, value in (config.get("where_present") or {}).items():
        if has(config, key):
            OmegaConf.update(changed, key, value)
    return changed


def without_resolvers(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values for another process.

    Only ${resolver:...} is resolved; ${key} stays, so that changing the key later still has its effect.
    """
    return _resolve_resolvers(config, OmegaConf.to_container(config, resolve=False))


def _resolve_resolvers(node: Any, plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _resolve_resolvers(_child(node, key, part), part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [_resolve_resolvers(_child(node, i, part), part) for i, part in enumerate(plain)]
    return node if isinstance(plain, str) and _RESOLVER.search(plain) else plain


def _child(node: Any, key: Any, plain: Any) -> Any:
    is_needed = isinstance(plain, dict | list) or (isinstance(plain, str) and _RESOLVER.search(plain))
    return node[key] if is_needed else None
