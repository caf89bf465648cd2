"""The order of images over epochs, seeds and ranks."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from autocaption.data.samplers import InOrder, TrainingSampler

SIZES = st.integers(1, 60)
WORLDS = st.integers(1, 7)
EPOCHS = st.integers(0, 5)
SEEDS = st.integers(0, 2**31)


def positions(size, seed, epoch, rank=0, world=1):
    sampler = TrainingSampler(size, seed, rank, world)
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
    sampler = TrainingSampler(50, 3)
    for epoch in (0, 1):  # what was drawn before makes no difference
        sampler.set_epoch(epoch)
        list(sampler)
    sampler.set_epoch(2)
    assert [position for _, position in sampler] == order
    assert [position for _, position in sampler] == order
    others = [positions(50, 3, 1), positions(50, 4, 2), list(range(50))]
    assert order not in others


def test_sampling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    positions(10, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@given(SIZES, SEEDS, EPOCHS, WORLDS)
def test_ranks_share_one_permutation_equally(size, seed, epoch, world):
    dealt = [positions(size, seed, epoch, rank, world) for rank in range(world)]
    assert len({len(hand) for hand in dealt}) == 1
    in_turn = [position for turn in zip(*dealt, strict=True) for position in turn]
    assert in_turn[:size] == positions(size, seed, epoch)
    assert set(in_turn) == set(range(size))
    assert len(in_turn) - size < world  # no more repeated than equal shares need


@given(st.integers(0, 60), WORLDS)
def test_evaluation_takes_every_image_once(size, world):
    samplers = [InOrder(size, rank, world) for rank in range(world)]
    keys = [key for sampler in samplers for key in sampler]
    assert sorted(keys) == [(0, position) for position in range(size)]
    assert sum(map(len, samplers)) == size
    assert max(map(len, samplers)) - min(map(len, samplers)) <= 1


def test_evaluation_on_one_device_keeps_the_order():
    assert list(InOrder(4)) == [(0, 0), (0, 1), (0, 2), (0, 3)]
