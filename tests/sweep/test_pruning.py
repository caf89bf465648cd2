from types import SimpleNamespace

import pytest

from autocaption.callbacks.pruning import Pruning
from autocaption.errors import UserError
from autocaption.sweep.verdict import LINE, SweepJudge


class Below:
    """Prunes what is below a half, and remembers what it was told."""

    def __init__(self):
        self.told = []

    def report(self, epoch, value, last):
        self.told.append((epoch, value, last))
        return value < 0.5


def validated(figures, epoch=0, first=True, verdict=None, sanity_checking=False):
    """A trainer at the end of a validation; `verdict` is what rank 0 broadcasts to another rank."""
    strategy = SimpleNamespace(broadcast=lambda mine: mine if verdict is None else verdict)
    return SimpleNamespace(
        sanity_checking=sanity_checking,
        current_epoch=epoch,
        max_epochs=2,
        callback_metrics=figures,
        is_global_zero=first,
        strategy=strategy,
        should_stop=False,
    )


def test_a_figure_is_reported_and_the_verdict_followed():
    judge = Below()
    callback = Pruning("val/bleu4", "max", judge)
    good, bad = validated({"val/bleu4": 0.75}), validated({"val/bleu4": 0.25}, epoch=1)
    callback.on_validation_end(good, None)
    assert not good.should_stop
    callback.on_validation_end(bad, None)
    assert bad.should_stop
    assert callback.pruned
    assert judge.told == [(1, 0.75, False), (2, 0.25, True)]


def test_other_ranks_report_nothing_and_do_as_the_first():
    judge = Below()
    callback = Pruning("val/bleu4", "max", judge)
    trainer = validated({"val/bleu4": 0.75}, first=False, verdict=True)
    callback.on_validation_end(trainer, None)
    assert trainer.should_stop
    assert judge.told == []


def test_a_sanity_check_is_no_validation():
    judge = Below()
    Pruning("val/bleu4", "max", judge).on_validation_end(validated({}, sanity_checking=True), None)
    assert judge.told == []


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({"val/bleu4": float("nan")}, "val/bleu4 is not a number after epoch 1"),
        ({"val/bleu4": 0.0, "val/loss": float("nan")}, "val/loss is not a number"),
        ({"val/bleu1": 0.5}, "no figure val/bleu4 to report; there are val/bleu1"),
    ],
)
def test_no_number_ends_the_trial_with_an_error(figures, text):
    judge = Below()
    with pytest.raises(UserError, match=text):
        Pruning("val/bleu4", "max", judge).on_validation_end(validated(figures), None)
    assert judge.told == []


def test_outside_of_a_sweep_a_trial_may_go_on(monkeypatch):
    monkeypatch.delenv(LINE, raising=False)
    assert SweepJudge().report(1, 0.0, False) is False
