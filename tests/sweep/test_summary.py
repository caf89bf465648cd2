"""The results of a sweep: the best configuration as an experiment, trials.json, the page."""

import json

import optuna
import pytest
from helpers.configs import composed, plain
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from autocaption.sweep.study import DEFINITION, GROUPS, OVERRIDES
from autocaption.sweep.summary import experiment_yaml, write_report

GROUP_KEYS = ["data", "search", "model/decoder", "logger"]
TRIALS = [(0.1, "lstm", [0.2, 5.0]), (0.2, "attention", [0.4, 9.0]), (0.3, "lstm", [0.1, 9.0])]


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.lr=0.003", "data.batch_size=7"],
        ["experiment=show_and_tell", "data.root=/data", "model.decoder.layers=2"],
        ["model/decoder=lstm", "search=greedy", "search.max_length=9", "logger=csv"],
        ["data=flickr8k", "data.root='/a b/c'", "+trainer.benchmark=true", "tags=[one,'two words']"],
        ["optimizer.lr=0.1", "optimizer.lr=0.2"],
        ["+new={a: 1, b: [x, null]}"],
    ],
    ids=" ".join,
)
def test_an_experiment_composes_to_what_its_overrides_gave(tmp_path, overrides):
    (tmp_path / "experiment").mkdir()
    text = experiment_yaml(overrides, GROUP_KEYS, "Best.")
    (tmp_path / "experiment/best.yaml").write_text(text)
    found = composed(f"hydra.searchpath=[file://{tmp_path}]", "experiment=best")
    assert plain(found) == plain(composed(*overrides))


def test_a_deletion_is_left_to_the_command_line():
    text = experiment_yaml(["~logger.csv", "seed=2"], GROUP_KEYS, "Trial 3 of the sweep.\nTwo lines.")
    assert text == (
        "# @package _global_\n# Trial 3 of the sweep.\n# Two lines.\n"
        "# To be given on the command line: ~logger.csv\nseed: 2\n"
    )


def test_a_choice_of_the_users_own_folder_is_found_with_the_search_path_that_is_named(tmp_path):
    own, sweep = tmp_path / "my conf/experiment", tmp_path / "sweep/experiment"
    own.mkdir(parents=True)
    sweep.mkdir(parents=True)
    (own / "of_mine.yaml").write_text("# @package _global_\nseed: 7\n")
    text = experiment_yaml(["experiment=of_mine", "search=greedy", "optimizer.lr=0.1"], GROUP_KEYS, "Best.")
    (line,) = [line for line in text.splitlines() if "searchpath" in line]
    assert line.endswith("'hydra.searchpath=[DIR]', the sweep's --config-dir, for experiment=of_mine")
    (sweep / "best.yaml").write_text(text)
    found = composed(f"hydra.searchpath=[{sweep.parent},{own.parent}]", "experiment=best")
    assert (found.seed, found.optimizer.lr) == (7, 0.1)


def finished_study(directions, objective):
    study = optuna.create_study(study_name="mine", directions=directions)
    study.set_user_attr(GROUPS, ["model/decoder"])
    study.set_user_attr(DEFINITION, {"objective": objective, "fixed": ["seed=2"], "space": {}})
    decoders = CategoricalDistribution(["lstm", "attention"])
    for lr, decoder, values in TRIALS:
        params = {"optimizer.lr": lr, "model/decoder": decoder}
        study.add_trial(
            create_trial(
                values=values[: len(directions)],
                params=params,
                distributions={"optimizer.lr": FloatDistribution(0, 1), "model/decoder": decoders},
                user_attrs={OVERRIDES: [f"{key}={value}" for key, value in params.items()], "epochs": 4},
            )
        )
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"error": "ValueError: <bad>"}))
    return study


def test_the_best_trial_becomes_an_experiment(tmp_path):
    page = write_report(finished_study(["maximize"], ["val/bleu4"]), tmp_path)
    assert page == tmp_path / "report.html"
    (file,) = (tmp_path / "experiment").iterdir()
    assert file.name == "best.yaml"
    assert file.read_text() == (
        "# @package _global_\n# Trial 1 of the sweep mine: val/bleu4 0.4.\n"
        "defaults:\n- override /model/decoder: attention\n- _self_\nseed: 2\noptimizer:\n  lr: 0.2\n"
    )
    text = page.read_text()
    assert f"python train.py --config-dir {tmp_path} experiment=best" in text
    assert "4 trials (0 running, 3 complete, 0 pruned, 1 fail, 0 waiting)" in text
    assert "ValueError: &lt;bad&gt;" in text


def test_each_trial_of_a_pareto_front_becomes_an_experiment(tmp_path):
    write_report(finished_study(["maximize", "minimize"], ["val/bleu4", "val/perplexity"]), tmp_path)
    assert {file.name for file in (tmp_path / "experiment").iterdir()} == {"front_0.yaml", "front_1.yaml"}
    found = json.loads((tmp_path / "trials.json").read_text())
    assert found["study"] == "mine"
    assert set(found["importances"]) == {"val/bleu4", "val/perplexity"}
    trials = found["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3 + ["FAIL"]
    assert trials[0]["values"] == {"val/bleu4": 0.2, "val/perplexity": 5.0}
    assert trials[0]["params"] == {"optimizer.lr": 0.1, "model/decoder": "lstm"}
    assert (trials[0]["epochs"], trials[0]["error"]) == (4, None)
    assert (trials[3]["values"], trials[3]["error"]) == (None, "ValueError: <bad>")


def test_a_study_without_a_complete_trial_has_a_page(tmp_path):
    study = optuna.create_study(study_name="mine")
    study.set_user_attr(GROUPS, [])
    study.set_user_attr(DEFINITION, {"objective": ["val/bleu4"], "fixed": []})
    assert "No trial is complete yet." in write_report(study, tmp_path).read_text()
    assert not (tmp_path / "experiment").exists()
