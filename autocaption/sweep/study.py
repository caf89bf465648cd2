"""A study and what defines it."""

import json
import secrets
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from autocaption.errors import UserError
from autocaption.sweep.storage import Storage

DEFINITION, UID, GROUPS = "definition", "uid", "groups"  # our attributes of a study
WORDS = {
    "space": "the search space",
    "custom_space": "the custom search space",
    "objective": "the objective",
    "direction": "the direction",
    "fixed": "the fixed overrides",
}


def open_study(
    storage: Storage,
    name: str,
    definition: Mapping[str, Any],
    groups: Sequence[str],
    first: Sequence[Mapping[str, Any]],
) -> optuna.Study:
    """Create the study or go on with it.

    Args:
        storage: where it lies.
        name: of the study.
        definition: plain values that make trials comparable; see WORDS.
        groups: keys of its overrides that choose a file of conf/.
        first: parameters of the trials to try first; they wait until a sweeper takes them.

    Raises:
        UserError: the study exists and is defined otherwise.
    """
    wanted = json.loads(json.dumps(definition))
    with storage.exclusive():
        study = optuna.create_study(
            storage=storage.studies,
            study_name=name,
            directions=_sequence(definition["direction"]),
            load_if_exists=True,
        )
        found = study.user_attrs.get(DEFINITION)
        if found is None:
            study.set_user_attr(UID, secrets.token_hex(4))
            study.set_user_attr(GROUPS, list(groups))
            with warnings.catch_warnings(action="ignore"):  # of values outside the space, and experiments
                study.set_metric_names(_sequence(definition["objective"]))
                for params in first:
                    study.enqueue_trial(dict(params), skip_if_exists=True)
            study.set_user_attr(DEFINITION, wanted)  # last, so that a study without it is begun again
            return study
    changed = [what for what in WORDS if found.get(what) != wanted.get(what)]
    if changed:
        what = changed[0]
        raise UserError(
            f"study '{name}' exists with other values of {WORDS[what]}: {_difference(found, wanted, what)}; "
            f"give this sweep a name of its own: sweep.study_name={name}_2"
        )
    return study


def _sequence(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _only(these: Any, others: Any) -> str:
    return " ".join(one for one in these if one not in others)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> str:
    before, after = found.get(what), wanted.get(what)
    if what == "fixed":
        return f"{_only(before, after) or 'nothing'} became {_only(after, before) or 'nothing'}"
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(key for key in {**before, **after} if before.get(key) != after.get(key))
        return ", ".join(keys)
    return f"{before} became {after}"
