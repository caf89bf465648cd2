"""BatchNorms folded into convolutions change nothing. Legend: B images; C channels, H height, W width."""

import pytest
import torch
from helpers.encoders import CONFIGS, build, pictures
from torch import nn

from autocaption.features.folding import folded


@pytest.fixture(name="images_BCHW", scope="module")
def images():
    return pictures()


def norms(encoder):
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


def lived_in(encoder):
    """With norms that are not the identity."""
    for norm in norms(encoder):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    return encoder.eval()


@pytest.mark.parametrize("encoder", CONFIGS)
@torch.no_grad()
def test_folded_encoder_gives_the_same_without_norms(encoder, images_BCHW):
    whole = lived_in(build(encoder))
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    found = folded(whole, images_BCHW[:1])
    assert (found is not whole) == bool(norms(whole))
    assert not norms(found)
    wanted = whole(images_BCHW)
    torch.testing.assert_close(found(images_BCHW), wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())


class Shortcut(nn.Module):
    """What a convolution gives goes to its norm and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images_BCHW):
        out_BCHW = self.conv(images_BCHW / 255)
        return out_BCHW + self.norm(out_BCHW)


@torch.no_grad()
def test_encoder_that_folding_would_change_is_kept(images_BCHW):
    encoder = lived_in(Shortcut())
    assert folded(encoder, images_BCHW) is encoder
