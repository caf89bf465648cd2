"""A study: its attributes, what defines it, and where it is stored."""

import json
import secrets
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from autocaption.errors import UserError
from autocaption.files import write_json
from autocaption.runs.provenance import without_secrets
from autocaption.sweep.storage import Storage, open_storage

LOCATION = "sweep.json"  # in a sweep's folder: its study and storage

# User attributes of a study.
DEFINITION = "definition"  # what makes its trials comparable
UID = "uid"  # unique, unlike its name
GROUPS = "groups"  # keys of its overrides that choose a file of conf/
EXHAUSTED = "exhausted"  # the sampler has nothing left to try
# User attributes of a trial.
OVERRIDES = "overrides"  # its parameters, as on the command line
RELATIVE = "relative"  # parameters that the sampler drew together
OWNER = "owner"  # who runs it, with a heartbeat
JOB_HEARTBEAT = "beat"  # of the job that runs it, under a launcher
ATTEMPT = "attempt"  # 1 the first time, more after interruptions
KILLS = "kills"  # how often it was killed while its sweeper lived
INTERRUPTED = "interrupted"  # when it was released
EPOCHS = "epochs"  # reported so far
PRUNED = "pruned"  # the epoch after which it was pruned
ERROR = "error"  # the last line of a failed trial
TITLES = {
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
    initial: Sequence[Mapping[str, Any]],
) -> optuna.Study:
    """Create the study, or load it.

    Args:
        storage: where it lies.
        name: the study's name.
        definition: plain values that make trials comparable; see TITLES.
        groups: keys of its overrides that choose a file of conf/.
        initial: parameters of the first trials, which wait to be claimed.

    Raises:
        UserError: the study exists with another definition.
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
            with warnings.catch_warnings(action="ignore"):  # values outside the space; experimental features
                study.set_metric_names(_sequence(definition["objective"]))
                for params in initial:
                    study.enqueue_trial(dict(params), skip_if_exists=True)
            study.set_user_attr(DEFINITION, wanted)  # last: a study without it is incomplete and set up again
            return study
    changed = [what for what in TITLES if found.get(what) != wanted.get(what)]
    if changed:
        what = changed[0]
        raise UserError(
            f"study '{name}' exists with other values of {TITLES[what]}: {_difference(found, wanted, what)}; "
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


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or those of the Pareto front; none where none is complete."""
    try:
        return study.best_trials if len(study.directions) > 1 else [study.best_trial]
    except ValueError:
        return []


def group_of(study: str, uid: str) -> str:
    """The W&B group of a study."""
    return f"{study}-{uid}"


def record_location(folder: Path, study: str, storage: str) -> None:
    """Record where the study is stored, for `find_study`; a password is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LOCATION, {"study": study, "storage": without_secrets(storage)})


def find_study(name: str, storage: str | None) -> tuple[optuna.Study, Path]:
    """The study of a sweep and its folder.

    Args:
        name: the folder, or the study's name where it lies in runs/sweeps.
        storage: its URL, where that needs a password.

    Raises:
        UserError: there is none.
    """
    tried = [Path(name), Path("runs/sweeps") / name]
    folder = next((one for one in tried if (one / LOCATION).exists()), None)
    if folder is None:
        raise UserError(f"no sweep in {tried[0].absolute()} or {tried[1].absolute()}; name a sweep's folder")
    location = json.loads((folder / LOCATION).read_text(encoding="utf-8"))
    url = storage or location["storage"]
    try:
        study = optuna.load_study(study_name=location["study"], storage=open_storage(url).studies)
    except KeyError:
        raise UserError(
            f"no study {location['study']} in {without_secrets(url)}; give --storage URL"
        ) from None
    return study, folder
