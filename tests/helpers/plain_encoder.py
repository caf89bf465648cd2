import torch.nn.functional as F
from torch import nn


class PlainEncoder(nn.Module):
    """A linear map of the picture at 4 x 4 pixels, without BatchNorm, which mixes images."""

    seen = 0  # pictures, by this process
    mean = std = (0.5, 0.5, 0.5)
    fit, crop_share, interpolation = "crop", 1.0, "bilinear"

    def __init__(self, image_size, out_dim, frozen=False, **ignored):
        super().__init__()
        self.image_size, self.out_dim = image_size, out_dim
        self.project = nn.Linear(48, out_dim).requires_grad_(not frozen)

    def forward(self, images_BCHW):
        PlainEncoder.seen += len(images_BCHW)
        small_BCHW = F.adaptive_avg_pool2d(images_BCHW.float() / 255, 4)
        return self.project(small_BCHW.flatten(1)).unsqueeze(1)


class PickyEncoder(PlainEncoder):
    """One whose weights want pictures of their own kind."""

    mean, fit, crop_share, interpolation = (0.2, 0.4, 0.6), "pad", 0.5, "bicubic"
