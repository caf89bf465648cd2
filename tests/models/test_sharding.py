"""Weights that are shared out are those of the whole model, whatever their memory format."""

import copy

import pytest
import torch
import torch.distributed as dist
from helpers.ranks import on_ranks
from helpers.sharded import batch, decoder_of, gradients, of_a_rank
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from autocaption.models.sharding import is_sharded, shard


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_convolutions_in_channels_last_are_shared_out(mesh):
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    whole = whole.to(memory_format=torch.channels_last)
    sharded = copy.deepcopy(whole)
    shard(sharded, mesh)
    assert is_sharded(sharded)
    images_BCHW = torch.rand(2, 3, 4, 4)
    for module in (whole, sharded):
        module(images_BCHW).square().sum().backward()
    for expected, shared in zip(whole.parameters(), sharded.parameters(), strict=True):
        torch.testing.assert_close(shared.grad.full_tensor(), expected.grad)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["transformer", "attention"])  # lstm has BatchNorm, which mixes images
def test_gradients_of_two_ranks_are_those_of_one_device(choice, tmp_path):
    """In double precision: in single, Adam makes steps of the rounding errors of gradients that are 0."""
    expected = gradients(decoder_of(choice), *batch())
    for found in on_ranks(of_a_rank, [choice, choice], tmp_path / "meeting", start="spawn"):
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-12)
