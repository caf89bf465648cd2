"""The configuration that a trial's process gets."""

from pathlib import Path

import pytest
from helpers.configs import composed
from omegaconf import OmegaConf

from autocaption.errors import UserError
from autocaption.sweep.trials import callback_config, trial_config

WANDB = {"id": "uid-3", "name": "study/trial_3", "group": "study-uid"}


@pytest.fixture(autouse=True)
def _resolver():
    OmegaConf.register_new_resolver("twice", lambda text: text + text)
    yield
    OmegaConf.clear_resolver("twice")


def configured(*overrides, resume=None, mode="max"):
    config = composed("sweep=default", *overrides).copy()
    OmegaConf.update(config, "hydra", {}, force_add=True)
    return trial_config(config, Path("/runs/trial_3"), resume, callback_config("val/cider", mode), WANDB)


def test_a_trial_reports_the_metric_of_the_checkpoint_it_keeps():
    config = configured("logger=wandb", mode="min")
    assert config["optimized_metric"] == "val/cider"
    assert config["callbacks"]["sweep"]["monitor"] == "val/cider"
    assert config["callbacks"]["best"]["monitor"] == "val/cider"
    assert config["callbacks"]["best"]["mode"] == "min"
    assert config["logger"]["wandb"].items() >= WANDB.items()
    assert (config["run_dir"], config["resume"]) == ("/runs/trial_3", None)
    assert config.keys().isdisjoint({"hydra", "sweep"})


def test_an_interrupted_trial_resumes_in_the_same_wandb_run():
    config = configured("logger=wandb", resume=Path("/runs/trial_3/checkpoints/last.ckpt"))
    assert config["resume"] == "/runs/trial_3/checkpoints/last.ckpt"
    assert config["logger"]["wandb"]["id"] == "uid-3"


def test_a_trial_needs_neither_callbacks_nor_loggers():
    config = configured("callbacks=none", "logger=none")
    assert list(config["callbacks"]) == ["sweep"]
    assert "wandb" not in (config["logger"] or {})


def test_resolvers_are_resolved_and_other_interpolations_kept():
    config = configured("tags=['${twice:a}','${task_name}']", "task_name='${twice:b}'")
    assert config["tags"] == ["aa", "${task_name}"]
    assert config["task_name"] == "bb"


def test_a_missing_value_is_found_before_the_start(monkeypatch):
    monkeypatch.delenv("AUTOCAPTION_DATA", raising=False)
    with pytest.raises(UserError, match=r"data\.root"):
        configured("data=flickr8k")
