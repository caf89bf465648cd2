"""The best trial as an experiment, which Hydra composes to the trial's own configuration."""

from helpers import CONF
from helpers.configs import plain
from hydra import compose, initialize_config_dir

from autocaption.sweep.summary import experiment_yaml

OVERRIDES = [
    *("experiment=shapes", "model/decoder=attention", "search=greedy", "optimizer.lr=0.004", "seed=3"),
    *("+model.decoder.extra={a: [1, 'x y']}", "model.encoder.width=5", "data.batch_size=7"),
]
GROUPS = ["experiment", "model/decoder", "search"]


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose("train", list(overrides)))


def test_the_experiment_composes_to_the_trial_s_configuration(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "best.yaml").write_text(experiment_yaml(OVERRIDES, GROUPS, "Trial 3.\nOf a sweep."))
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    assert composed("experiment=best", searched) == composed(*OVERRIDES)


def test_comments_come_first_and_deletions_are_named():
    text = experiment_yaml(["~logger.wandb", "seed=3"], GROUPS, "One.\nTwo.")
    assert text.splitlines()[:4] == [
        "# @package _global_",
        "# One.",
        "# Two.",
        "# To be given on the command line: ~logger.wandb",
    ]
    assert "seed: 3" in text
