"""A study: created once, refused with another definition, found again by its sweep's folder."""

import contextlib
import json

import optuna
import pytest

from autocaption.errors import UserError
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import best_trials, find_study, open_study, record_location

DEFINITION = {
    "space": {"lr": "interval"},
    "custom_space": None,
    "objective": ["val/bleu4"],
    "direction": ["maximize"],
    "fixed": ["data=shapes", "seed=1"],
}
CHANGES = {  # other values, and how the error names them
    "space": ({"lr": "choice"}, "the search space: lr;"),
    "custom_space": ("a.b", "the custom search space: None became a.b;"),
    "objective": (["val/loss"], r"the objective: \['val/bleu4'\] became \['val/loss'\];"),
    "direction": (["minimize"], "the direction: "),
    "fixed": (["data=shapes", "seed=2"], "the fixed overrides: seed=1 became seed=2;"),
}


@pytest.fixture
def url(tmp_path):
    return f"journal:{tmp_path}/study.log"


def opened(url, definition=DEFINITION, initial_trials=()):
    return open_study(open_storage(url), "study", definition, ["data"], initial_trials)


@pytest.mark.parametrize("key", DEFINITION)
def test_another_definition_is_refused(url, key):
    uid = opened(url).user_attrs["uid"]
    value, difference = CHANGES[key]
    with pytest.raises(UserError, match=rf"{difference}.* sweep\.study_name=study_2"):
        opened(url, {**DEFINITION, key: value})
    assert opened(url).user_attrs["uid"] == uid


def test_the_baseline_is_not_enqueued_twice(url):
    study = opened(url, initial_trials=[{"lr": 1.0}, {"lr": 2.0}, {"lr": 1.0}])
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [{"lr": 1.0}, {"lr": 2.0}]
    assert len(opened(url, initial_trials=[{"lr": 3.0}]).trials) == 2  # only the first command's


def test_a_study_whose_creation_was_interrupted_is_completed(url, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(optuna.Study, "enqueue_trial", interrupted)
        opened(url, initial_trials=[{"lr": 1.0}])
    assert len(opened(url, initial_trials=[{"lr": 1.0}]).trials) == 1


def test_a_sweep_is_found_by_its_folder_or_by_its_name(url, tmp_path, monkeypatch):
    folder = tmp_path / "runs/sweeps/mine"
    record_location(folder, "study", url)
    opened(url)
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "mine"):
        study, found = find_study(name, None)
        assert study.study_name == "study"
        assert found.absolute() == folder
    with pytest.raises(UserError, match=r"no sweep in .*/other or .*/runs/sweeps/other"):
        find_study("other", None)
    with pytest.raises(UserError, match=r"no study study in journal:.*; give --storage URL"):
        find_study("mine", f"journal:{tmp_path}/empty.log")


def test_the_recorded_location_holds_no_password(tmp_path):
    record_location(tmp_path, "study", "postgresql://me:secret@host/db")
    location = json.loads((tmp_path / "sweep.json").read_text())
    assert location == {"study": "study", "storage": "postgresql://me:<hidden>@host/db"}


def test_the_best_trials():
    study = optuna.create_study(direction="maximize")
    assert best_trials(study) == []
    for value in (1.0, 3.0, 2.0):
        study.tell(study.ask(), value)
    assert [trial.number for trial in best_trials(study)] == [1]
    front = optuna.create_study(directions=["maximize", "minimize"])
    assert best_trials(front) == []
    for values in ([1.0, 1.0], [2.0, 2.0], [1.0, 2.0]):
        front.tell(front.ask(), values)
    assert [trial.number for trial in best_trials(front)] == [0, 1]
