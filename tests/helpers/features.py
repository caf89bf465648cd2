"""What tests of stored features share. Legend: B images, P places, D width; C channels, H height, W width."""

import torch
from torch import nn

from autocaption.data.manifest import Manifest
from autocaption.data.sources.shapes import Shapes
from autocaption.data.transforms import Square
from autocaption.features.cache import FeatureCache
from helpers.augmentation import crop_and_flip

CENTRE, RANDOM = Square(16), crop_and_flip(16, 0.8)  # 25 places, flipped or not


class Encoder(nn.Module):
    """Frozen; counts the pictures that it is shown."""

    image_size, out_dim = 16, 5

    def __init__(self, pooling="grid", seed=0):
        super().__init__()
        self.pooling = pooling
        torch.manual_seed(seed)
        self.grid = nn.Conv2d(3, 5, 8, stride=8).requires_grad_(False)
        self.seen = 0

    def forward(self, images_BCHW):
        self.seen += len(images_BCHW)
        grid_BPD = self.grid(images_BCHW.float() / 255).flatten(2).transpose(1, 2)
        return grid_BPD if self.pooling == "grid" else grid_BPD.mean(1, keepdim=True)


def cache(folder, encoder=None, **changes):
    settings = {"batch_size": 4, "devices": [torch.device("cpu")], "manifest": Manifest(None), **changes}
    return FeatureCache(str(folder), encoder or Encoder(), **settings)


def scenes(train=11):
    source = Shapes(seed=0, size=20, train=train, val=3, test=1)
    return source, source.split("train")
