"""Networks of timm and torchvision, with random weights and for small pictures."""

import torch

from autocaption.models.encoders.timm_models import timm_encoder
from autocaption.models.encoders.torchvision_models import torchvision_encoder

PIXELS = 64
MAKERS = {"timm": timm_encoder, "torchvision": torchvision_encoder}


def build(library, name, **changes):
    settings = {"image_size": pixels(name), "pretrained": False, "weights": None, "pooling": "grid"}
    torch.manual_seed(0)
    return MAKERS[library](name, **{**settings, "trainable": "none", **changes})


def pixels(name):
    return 56 if "patch14" in name else PIXELS


def pictures(name):
    torch.manual_seed(1)
    return torch.randint(256, (3, 3, pixels(name), pixels(name)), dtype=torch.uint8)
