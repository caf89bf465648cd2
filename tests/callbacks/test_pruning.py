"""The callback that reports a metric after each validation and stops pruned runs."""

from types import SimpleNamespace

import pytest
from helpers.sweeps import Threshold

from autocaption.callbacks.pruning import Pruning
from autocaption.errors import UserError


def validated(metrics, epoch=0, rank_zero=True, broadcast=None, sanity_checking=False):
    """A trainer at the end of a validation; `broadcast` is what another rank receives from rank 0."""
    strategy = SimpleNamespace(broadcast=lambda value: value if broadcast is None else broadcast)
    return SimpleNamespace(
        sanity_checking=sanity_checking,
        current_epoch=epoch,
        max_epochs=2,
        global_step=3 * (epoch + 1),
        max_steps=-1,
        callback_metrics=metrics,
        is_global_zero=rank_zero,
        strategy=strategy,
        should_stop=False,
    )


def test_the_metric_is_reported_and_a_pruned_run_stops():
    reporter = Threshold()
    callback = Pruning("val/bleu4", "max", reporter)
    good, bad = validated({"val/bleu4": 0.75}), validated({"val/bleu4": 0.25}, epoch=1)
    callback.on_validation_end(good, None)
    assert not good.should_stop
    callback.on_validation_end(bad, None)
    assert bad.should_stop
    assert callback.pruned
    assert reporter.reported == [(1, 0.75, False), (2, 0.25, True)]


@pytest.mark.parametrize(
    ("changes", "last"),
    [({}, False), ({"max_steps": 4}, False), ({"max_steps": 3}, True), ({"should_stop": True}, True)],
)
def test_a_training_that_ends_by_its_steps_or_early_has_its_last_report(changes, last):
    reporter, trainer = Threshold(), validated({"val/bleu4": 0.75})
    vars(trainer).update(changes)
    Pruning("val/bleu4", "max", reporter).on_validation_end(trainer, None)
    assert reporter.reported == [(1, 0.75, last)]


def test_other_ranks_report_nothing_and_stop_with_rank_zero():
    reporter = Threshold()
    callback = Pruning("val/bleu4", "max", reporter)
    trainer = validated({"val/bleu4": 0.75}, rank_zero=False, broadcast=True)
    callback.on_validation_end(trainer, None)
    assert trainer.should_stop
    assert reporter.reported == []


def test_a_sanity_check_reports_nothing():
    reporter = Threshold()
    Pruning("val/bleu4", "max", reporter).on_validation_end(validated({}, sanity_checking=True), None)
    assert reporter.reported == []


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"val/bleu4": float("nan")}, "val/bleu4 is not a number after epoch 1"),
        ({"val/bleu4": 0.0, "val/loss": float("nan")}, "val/loss is not a number"),
        ({"val/bleu1": 0.5}, "no metric val/bleu4 to report; there are val/bleu1"),
    ],
)
def test_a_missing_metric_or_nan_ends_the_trial_with_an_error(metrics, message):
    reporter = Threshold()
    with pytest.raises(UserError, match=message):
        Pruning("val/bleu4", "max", reporter).on_validation_end(validated(metrics), None)
    assert reporter.reported == []
