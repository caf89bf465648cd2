"""Dropout that depends on seed, epoch, batch and rank only."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from helpers.commands import TINY
from helpers.configs import composed

from autocaption import build
from autocaption.callbacks.step_seed import StepSeed


def trained(folder, draws, *changes):
    """The weights after a training with dropout, before which so many random numbers were drawn."""
    words = (*TINY, "model.decoder.dropout=0.5", "logger=none", "~callbacks.captions", *changes)
    config = composed(*words, f"run_dir={folder}")
    pl.seed_everything(config.seed, verbose=False)
    data, captioner = build.from_config(config)
    torch.rand(draws)
    build.trainer(config).fit(captioner, data)
    return captioner.state_dict()


def test_training_with_dropout_ignores_what_was_drawn_before(tmp_path):
    one, other = (trained(tmp_path / str(draws), draws) for draws in (0, 7))
    assert all(torch.equal(one[name], other[name]) for name in one)


def first_draw(seed, epoch, batch, rank):
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    StepSeed(seed).on_train_batch_start(trainer, None, None, batch)
    return torch.rand(1).item()


@pytest.mark.parametrize("other", [(1, 2, 3, 0), (0, 3, 3, 0), (0, 2, 4, 0), (0, 2, 3, 1), (0, 3, 2, 0)])
def test_each_seed_epoch_batch_and_rank_draws_its_own(other):
    assert first_draw(0, 2, 3, 0) == first_draw(0, 2, 3, 0)
    assert first_draw(0, 2, 3, 0) != first_draw(*other)
