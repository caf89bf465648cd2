"""A study: its attributes, its definition, and how to find it again."""

import json
import re
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from autocaption.errors import UserError
from autocaption.files import write_json
from autocaption.runs.provenance import without_secrets
from autocaption.sweep.definition import difference
from autocaption.sweep.storage import Storage, open_storage, own_url

LOCATION = "sweep.json"  # in the sweep's folder: the study's name and storage

# User attributes of a study.
DEFINITION = "definition"  # the settings that make its trials comparable: see definition.py
UID = "uid"  # unique, unlike the study's name
GROUPS = "groups"  # those keys of its overrides that are config groups
EXHAUSTED = "exhausted"  # set once the sampler has tried every combination
REPORTED = "reported"  # how many trials the last report has, and who wrote it: see closing.py
# User attributes of a trial.
OVERRIDES = "overrides"  # its parameters, as on the command line
RELATIVE = "relative"  # the parameters that the sampler drew jointly (Optuna's relative sampling)
OWNER = "owner"  # the sweeper that runs it, with a heartbeat: see claims.py
JOB_HEARTBEAT = "beat"  # heartbeat of its job, under a launcher
ATTEMPT = "attempt"  # 1 at first, one more after each interruption
STOPS = "stops"  # how often in a row an attempt was stopped before it got further than the one before
PROGRESS = "progress"  # the most epochs, and the newest checkpoint's time, of its attempts
INTERRUPTED = "interrupted"  # the time when it was last returned to the queue
EPOCHS = "epochs"  # the number of epochs reported so far
PRUNED = "pruned"  # the epoch after which it was pruned
ERROR = "error"  # the error line of a failed trial

# A folder, a W&B group and the titles of pages take it as it stands, also on other systems.
_NAME = re.compile(r"\w[\w.+=-]{0,99}")


def check_name(name: object) -> None:
    """Refuse a study's name that would lead its folder elsewhere.

    Raises:
        UserError: it says which names may be taken.
    """
    if not _NAME.fullmatch(str(name)):
        raise UserError(
            f"sweep.study_name={name}: take letters, digits and any of . _ - + = after the first, 100 at most"
        )


def open_study(
    storage: Storage,
    name: str,
    definition: Mapping[str, Any],
    groups: Sequence[str],
    initial_trials: Sequence[Mapping[str, Any]],
) -> optuna.Study:
    """Create the study, or load it if it exists.

    Args:
        storage: where the study is stored.
        name: the study's name.
        definition: plain values that make trials comparable, by the keys of LABELS in definition.py.
        groups: those keys of the overrides that are config groups.
        initial_trials: parameters to try first; enqueued when the study is created.

    Raises:
        UserError: the study exists with another definition.
    """
    wanted = json.loads(json.dumps(definition))
    with storage.exclusive():
        study = optuna.create_study(
            storage=storage.backend,
            study_name=name,
            directions=as_list(definition["direction"]),
            load_if_exists=True,
        )
        found = study.user_attrs.get(DEFINITION)
        if found is None:
            study.set_user_attr(UID, secrets.token_hex(4))
            study.set_user_attr(GROUPS, list(groups))
            with warnings.catch_warnings(action="ignore"):  # values outside of the space, experimental API
                study.set_metric_names(as_list(definition["objective"]))
                for params in initial_trials:
                    study.enqueue_trial(dict(params), skip_if_exists=True)
            # Last: if this process is killed before, the next one repeats the steps above.
            study.set_user_attr(DEFINITION, wanted)
            return study
    if changed := difference(found, wanted):
        raise UserError(
            f"study '{name}' exists with other values of {changed}; "
            f"give this sweep another name: sweep.study_name={name}_2"
        )
    return study


def as_list(value: Any) -> list[Any]:
    """A setting that may be one value or several, as a list."""
    return [value] if isinstance(value, str) else list(value)


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial, or the trials of the Pareto front; empty if no trial is complete."""
    try:
        return study.best_trials if len(study.directions) > 1 else [study.best_trial]
    except ValueError:
        return []


def parameter_names(trials: Iterable[FrozenTrial]) -> list[str]:
    """The names of all parameters, in the order in which the trials have them."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def wandb_group(study_name: str, uid: str) -> str:
    """The W&B group of a study's runs."""
    return f"{study_name}-{uid}"


def record_location(folder: Path, study_name: str, url: str | None) -> None:
    """Record where the study is stored for `find_study`: its URL without a password, None for the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LOCATION, {"study": study_name, "storage": url and without_secrets(url)})


def find_study(name: str, url: str | None) -> tuple[optuna.Study, Path]:
    """The study of a sweep, and the sweep's folder.

    Args:
        name: the sweep's folder, or the study's name if the folder lies in runs/sweeps.
        url: the storage's URL, if it needs a password; None for the recorded one.

    Raises:
        UserError: there is no such folder or study.
    """
    tried = [Path(name), Path("runs/sweeps") / name]
    folder = next((path for path in tried if (path / LOCATION).exists()), None)
    if folder is None:
        raise UserError(f"no sweep in {tried[0].absolute()} or {tried[1].absolute()}; name a sweep's folder")
    location = json.loads((folder / LOCATION).read_text(encoding="utf-8"))
    url = url or location["storage"] or own_url(folder.absolute())
    try:
        study = optuna.load_study(study_name=location["study"], storage=open_storage(url).backend)
    except KeyError:
        raise UserError(
            f"no study {location['study']} in {without_secrets(url)}; give --storage URL"
        ) from None
    return study, folder
