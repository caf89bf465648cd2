from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

Transform = Callable[[Image.Image, int], Tensor]  # picture and seed to uint8 (3, size, size)


def evaluation(size: int, crop: float) -> Transform:
    """The centre of a picture, `crop` of its shorter side wide; nothing is left to chance."""
    steps = v2.Compose([v2.PILToTensor(), *_resize(size, crop), v2.CenterCrop(size)])
    return lambda picture, _seed: steps(picture)


def training(size: int, crop: float) -> Transform:
    """Like `evaluation`, but the crop's place and a left-right flip are drawn from the seed."""
    steps = v2.Compose(
        [v2.PILToTensor(), *_resize(size, crop), v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    )

    def transform(picture: Image.Image, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):  # v2 draws from the global generator only
            torch.manual_seed(seed)
            return steps(picture)

    return transform


def _resize(size: int, crop: float) -> list[v2.Transform]:
    return [v2.Resize(round(size / crop), antialias=True)]
