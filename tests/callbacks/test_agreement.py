"""Ranks stop, and save, at the same step, whichever of them was asked to. gloo on the CPU."""

import os
import signal
from types import SimpleNamespace

import pytest
from helpers.ranks import on_ranks

from autocaption.callbacks import last_checkpoint
from autocaption.callbacks.agreement import Agreement
from autocaption.callbacks.last_checkpoint import LastCheckpoint
from autocaption.callbacks.preemption import Preemption
from autocaption.runs.run import PreemptedError

STEPS = 12


def fake_trainer(rank, callbacks):
    """A Trainer of single-batch steps, which notes the steps that are saved."""
    trainer = SimpleNamespace(
        callbacks=callbacks,
        loggers=[],
        is_global_zero=rank == 0,
        ckpt_path=None,
        global_step=0,
        accumulate_grad_batches=1,
        val_check_batch=float("inf"),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()),
        saved=[],
    )
    trainer.save_checkpoint = lambda path: trainer.saved.append(trainer.global_step)
    return trainer


def steps(trainer, before_each):
    """Train, as far as callbacks see it."""
    for callback in trainer.callbacks:
        callback.on_train_start(trainer, None)
    try:
        for trainer.global_step in range(STEPS):
            before_each(trainer.global_step)
            for callback in trainer.callbacks:
                callback.on_train_batch_start(trainer, None, None, trainer.global_step)
    finally:
        for callback in trainer.callbacks:
            callback.teardown(trainer, None, "fit")


def test_one_process_agrees_with_itself_at_once():
    agreement = Agreement()
    assert [agreement(value) for value in (0, 3, 1)] == [0, 3, 1]
    agreement.end()


def maxima(rank, values):
    agreement, other = Agreement(), Agreement()
    found = [agreement(value) for value in values]
    other(rank)  # has a group of its own: nothing of the first one's gets in
    assert other(0) == 1
    agreement.end()
    return [*found, agreement(9), agreement(0)]  # and begins anew


def test_ranks_agree_on_the_maximum_of_the_step_before(tmp_path):
    values = [[0, 0, 15, 0, 0], [0, 10, 2, 0, 0]]
    found = on_ranks(maxima, values, tmp_path / "meeting")
    assert found == [[0, 0, 10, 15, 0, 0, 9]] * 2


def preempted(rank, signals):
    """(the step before which a rank stops, the signal, the exit code, the steps that were saved)."""
    preemption = Preemption()
    last = LastCheckpoint("unused", every_n_steps=0, every_n_minutes=0, keep=1)
    trainer = fake_trainer(rank, [last, preemption])
    with pytest.raises(PreemptedError) as stopped:
        steps(trainer, lambda step: step in signals and os.kill(os.getpid(), signals[step]))
    return trainer.global_step, stopped.value.signal, stopped.value.code, trainer.saved


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([{}, {3: signal.SIGUSR1}], (4, signal.SIGUSR1, 143, [4])),  # to one alone
        (
            [{3: signal.SIGTERM}, {5: signal.SIGTERM}],
            (4, signal.SIGTERM, 143, [4]),
        ),  # one is later
        ([{3: signal.SIGINT}, {3: signal.SIGTERM}], (4, signal.SIGTERM, 143, [4])),
        ([{6: signal.SIGINT}, {}], (7, signal.SIGINT, 130, [7])),
    ],
)
def test_all_ranks_stop_before_the_same_step_with_the_same_code(signals, expected, tmp_path):
    assert on_ranks(preempted, signals, tmp_path / "meeting") == [expected] * 2


def saved(rank, clock):
    """The steps that a rank saves, by a clock of its own, once a minute."""
    trainer = fake_trainer(rank, [])
    last_checkpoint.time = SimpleNamespace(monotonic=lambda: clock[trainer.global_step])
    trainer.callbacks.append(LastCheckpoint("unused", every_n_steps=0, every_n_minutes=1, keep=1))
    steps(trainer, lambda step: None)
    return trainer.saved


def test_ranks_with_clocks_of_their_own_save_at_the_same_steps(tmp_path):
    slow = [30 * step for step in range(STEPS)]
    fast = [61 * step for step in range(STEPS)]
    first, second = on_ranks(saved, [slow, fast], tmp_path / "meeting")
    assert first == second
    assert len(first) >= 3
