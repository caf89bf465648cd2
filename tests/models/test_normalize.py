"""Legend: B images; C channels, H height, W width."""

import torch
from torchvision.transforms.v2 import functional

from autocaption.models.encoders.normalize import Normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_equals_torchvision_for_every_byte_and_channel():
    images_BCHW = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    expected_BCHW = functional.normalize(floats_BCHW, list(MEAN), list(STD))
    torch.testing.assert_close(Normalize(MEAN, STD)(images_BCHW), expected_BCHW, atol=2e-6, rtol=0)


def test_constants_follow_the_module_but_not_the_checkpoint():
    module = Normalize(MEAN, STD).double()
    assert module(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == torch.float64
    assert module.state_dict() == {}
