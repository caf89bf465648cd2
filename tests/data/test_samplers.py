"""The order of images over epochs, seeds and ranks, and what batches count."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autocaption.data.samplers import InOrder, TrainingSampler

SIZES = st.integers(1, 60)
WORLDS = st.integers(1, 7)
EPOCHS = st.integers(0, 5)
SEEDS = st.integers(0, 2**31)
BATCHES = st.integers(1, 9)


def sampler_of(size, seed=3, rank=0, world=1, batch_size=4, **options):
    tokens = np.random.default_rng(size).integers(1, 40, size)
    return TrainingSampler(tokens, batch_size, seed, rank, world, **options)


def positions(size, seed, epoch, rank=0, world=1, batch_size=4):
    sampler = sampler_of(size, seed, rank, world, batch_size)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert {key[0] for key in keys} <= {epoch}
    assert len(keys) == len(sampler)
    return [key[1] for key in keys]


@given(SIZES, SEEDS, EPOCHS)
def test_an_epoch_is_a_permutation(size, seed, epoch):
    assert sorted(positions(size, seed, epoch)) == list(range(size))


def test_order_depends_on_seed_and_epoch_only():
    torch.manual_seed(1)
    order = positions(50, seed=3, epoch=2)
    torch.manual_seed(2)
    torch.rand(5)
    sampler = sampler_of(50)
    for epoch in (0, 1):  # what was drawn before makes no difference
        sampler.set_epoch(epoch)
        list(sampler)
    sampler.set_epoch(2)
    assert [position for _, position in sampler] == order
    assert [position for _, position in sampler] == order
    others = [positions(50, 3, 1), positions(50, 4, 2), list(range(50))]
    assert order not in others


def test_unshuffled_it_keeps_the_order_in_every_epoch():
    sampler = sampler_of(5, shuffled=False)
    sampler.set_epoch(3)
    assert [position for _, position in sampler] == list(range(5))


def test_sampling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    positions(10, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@given(SIZES, SEEDS, EPOCHS, WORLDS, BATCHES)
def test_a_batch_of_all_ranks_is_one_of_a_single_device(size, seed, epoch, world, batch_size):
    dealt = [positions(size, seed, epoch, rank, world, batch_size) for rank in range(world)]
    batches = [[hand[i : i + batch_size] for i in range(0, len(hand), batch_size)] for hand in dealt]
    assert len({len(hand) for hand in batches}) == 1
    whole, big = positions(size, seed, epoch), batch_size * world
    for number, parts in enumerate(zip(*batches, strict=True)):
        together, expected = [one for part in parts for one in part], whole[number * big : (number + 1) * big]
        repeated = len(together) - len(expected)
        assert set(together) - {whole[0]} <= set(expected)
        assert repeated < world
        assert sorted(expected) == sorted(together) or repeated > 0


@given(SIZES, WORLDS, BATCHES, st.integers(1, 4))
def test_weighted_means_of_batches_add_up_to_the_means_over_the_step(size, world, batch_size, accumulate):
    """Each image, and each of its tokens, costs what its index says; batches average over theirs."""
    samplers = [sampler_of(size, 0, rank, world, batch_size) for rank in range(world)]
    order, tokens, count = samplers[0].order(0), samplers[0].tokens, -(-len(samplers[0]) // batch_size)
    for first in range(0, count, accumulate):
        step, found = range(first, min(first + accumulate, count)), np.zeros(2)
        for sampler in samplers:
            indices = np.array([index for _, index in sampler])
            for batch in step:
                own = indices[batch * batch_size : (batch + 1) * batch_size]
                means = np.array([np.average(own, weights=tokens[own]), own.mean()])
                found += np.array(sampler.weights(0, batch, step, accumulate)) * means / world / accumulate
        every = order[step.start * batch_size * world : step.stop * batch_size * world]
        assert found == pytest.approx([np.average(every, weights=tokens[every]), every.mean()])


def test_a_batch_that_is_a_step_of_its_own_counts_exactly_one():
    sampler = sampler_of(11, batch_size=3)
    assert [sampler.weights(0, batch, range(batch, batch + 1), 1) for batch in range(4)] == [(1.0, 1.0)] * 4


@given(st.integers(0, 60), WORLDS, BATCHES)
def test_evaluation_takes_every_image_once_in_the_batches_of_one_device(size, world, batch_size):
    samplers = [InOrder(size, batch_size, rank, world) for rank in range(world)]
    assert len({len(list(sampler)) for sampler in samplers}) == 1
    assert all(len(list(sampler)) == len(sampler) for sampler in samplers)
    dealt = [batch for turn in zip(*samplers, strict=True) for batch in turn if batch]
    assert dealt == list(InOrder(size, batch_size))
    assert [key for batch in dealt for key in batch] == [(0, position) for position in range(size)]
