"""The pruning callback: reports each validation, stops all ranks, refuses NaN."""

from types import SimpleNamespace

import pytest

from autocaption.callbacks.pruning import Pruning
from autocaption.errors import UserError
from autocaption.launch.parent import REPORTS, ParentReporter


class Below:
    """Prunes what is below a half, and keeps the reports."""

    def __init__(self):
        self.reported = []

    def report(self, epoch, value, last):
        self.reported.append((epoch, value, last))
        return value < 0.5


def validated(metrics, epoch=0, first=True, broadcast=None, sanity_checking=False):
    """A trainer at the end of a validation; `broadcast` is what rank 0 broadcasts to another rank."""
    strategy = SimpleNamespace(broadcast=lambda mine: mine if broadcast is None else broadcast)
    return SimpleNamespace(
        sanity_checking=sanity_checking,
        current_epoch=epoch,
        max_epochs=2,
        callback_metrics=metrics,
        is_global_zero=first,
        strategy=strategy,
        should_stop=False,
    )


def test_reports_the_metric_and_stops_when_pruned():
    reporter = Below()
    callback = Pruning("val/bleu4", "max", reporter)
    good, bad = validated({"val/bleu4": 0.75}), validated({"val/bleu4": 0.25}, epoch=1)
    callback.on_validation_end(good, None)
    assert not good.should_stop
    callback.on_validation_end(bad, None)
    assert bad.should_stop
    assert callback.pruned
    assert reporter.reported == [(1, 0.75, False), (2, 0.25, True)]


def test_other_ranks_report_nothing_and_stop_with_rank_0():
    reporter = Below()
    callback = Pruning("val/bleu4", "max", reporter)
    trainer = validated({"val/bleu4": 0.75}, first=False, broadcast=True)
    callback.on_validation_end(trainer, None)
    assert trainer.should_stop
    assert reporter.reported == []


def test_reports_nothing_in_a_sanity_check():
    reporter = Below()
    Pruning("val/bleu4", "max", reporter).on_validation_end(validated({}, sanity_checking=True), None)
    assert reporter.reported == []


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"val/bleu4": float("nan")}, "val/bleu4 is not a number after epoch 1"),
        ({"val/bleu4": 0.0, "val/loss": float("nan")}, "val/loss is not a number"),
        ({"val/bleu1": 0.5}, "no metric val/bleu4 to report; there are val/bleu1"),
    ],
)
def test_missing_metric_or_nan_raises(metrics, text):
    reporter = Below()
    with pytest.raises(UserError, match=text):
        Pruning("val/bleu4", "max", reporter).on_validation_end(validated(metrics), None)
    assert reporter.reported == []


def test_never_prunes_outside_of_a_sweep(monkeypatch):
    monkeypatch.delenv(REPORTS, raising=False)
    assert ParentReporter().report(1, 0.0, False) is False
