"""A metric that no validation will log is found before the training starts."""

import numpy as np
import pytest
from helpers.configs import CHOICES, composed
from helpers.scoring import images, metrics

from autocaption.errors import UserError
from autocaption.metrics import java
from autocaption.metrics.meteor import Meteor
from autocaption.metrics.spice import Spice
from autocaption.monitored import configured_scores, require_logged

SPLIT = images([["a dog runs", "two dogs"], ["two men sit"]], [["a dog is running"], ["two men sit down"]])
LIGHTNINGS = "pytorch_lightning.callbacks"
MISTAKES = {  # what is said, by words of the command line
    "callbacks.best.monitor=val/cidr": "callbacks.best.monitor=val/cidr is no metric that will be logged; "
    "take val/cider",
    "callbacks.best.monitor=val_loss": "val/loss",
    "callbacks.best.monitor=bleu4": "val/bleu4",
    "callbacks.best.monitor=test/cider": "val/cider",
    "callbacks=early_stopping callbacks.early_stopping.monitor=val/blue4": "callbacks.early_stopping.monitor",
    "callbacks=ema callbacks.best.monitor=val/x": "take val/loss or val/perplexity or val/bleu1 or",
    f"+callbacks.a._target_={LIGHTNINGS}.ModelCheckpoint +callbacks.a.monitor=val/x": "callbacks.a",
    "metrics=bleu callbacks.best.monitor=val/cider": "val/cider is no metric",
    "metrics.image_metrics.bleu.n_gram=2": "callbacks.best.monitor=val/bleu4",
    "optimized_metric=val/cidr": "optimized_metric=val/cidr",
    "optimized_metric=test/cider test=false": "optimized_metric=test/cider",
}
FINE = [
    "callbacks.best.monitor=null",
    "callbacks.best.monitor=step",
    "callbacks.best.monitor=train/loss",  # what a loss logs, only a step can tell
    "callbacks.best.monitor=lr",
    "callbacks=none optimized_metric=steps",
    "optimized_metric=test/cider",
    "optimized_metric=null",
    # Callbacks and metrics of one's own may log anything.
    "+callbacks.mine._target_=mine.Callback callbacks.best.monitor=val/mine",
    "+callbacks.mine._target_=autocaption.callbacks.mine.Mine callbacks.best.monitor=val/mine",
    f"+callbacks.mine._target_={LIGHTNINGS}.LambdaCallback callbacks.best.monitor=val/mine",
    "+metrics.image_metrics.mine._target_=helpers.spy.Spy +metrics.image_metrics.mine.folder=x "
    "callbacks.best.monitor=val/mine",
    "metrics._target_=mine.Metrics callbacks.best.monitor=val/mine",
]


def check(line, objective=None):
    config = composed(*line.split())
    require_logged(config, configured_scores(config), objective)


@pytest.mark.parametrize(("line", "said"), MISTAKES.items())
def test_what_will_not_be_logged_is_refused_with_what_is_near(line, said):
    with pytest.raises(UserError) as error:
        check(line)
    assert said in str(error.value)


@pytest.mark.parametrize("line", FINE)
def test_what_may_be_logged_is_left_to_the_first_validation(line):
    check(line)


@pytest.mark.parametrize("choice", [one for one in CHOICES if one.startswith(("experiment=", "callbacks="))])
def test_no_choice_of_conf_is_refused(choice):
    check(choice)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (["val/cidr"], "sweep.objective=val/cidr is no metric that will be logged; take val/cider"),
        (["val/bleu4", "val/los"], "sweep.objective=val/los"),
        (["steps"], "sweep.objective=steps"),  # nothing to report while it trains
        (["test/cider", "val/loss"], "sweep.objective=test/cider"),
    ],
)
def test_the_objective_of_a_sweep_is_checked(objective, said):
    with pytest.raises(UserError, match=said):
        check("test=true", objective)
    check("callbacks.best.monitor=val/x optimized_metric=val/x", ["val/cider", "steps"])  # both are replaced


@pytest.mark.parametrize("choice", ["bleu", "coco", "original"])
def test_metrics_have_the_names_of_their_scores(choice):
    configured = metrics(choice)
    assert set(configured.names) == set(configured.score(SPLIT).scores())
    assert configured.names == configured_scores(composed(f"metrics={choice}"))


def test_metrics_of_java_have_the_names_of_their_scores(monkeypatch, tmp_path):
    monkeypatch.setattr(java, "jar", lambda name: tmp_path / name)
    for metric in (Meteor(), Spice(tmp_path)):
        assert list(metric.names) == list(metric.scores(np.ones((1, 23))))
