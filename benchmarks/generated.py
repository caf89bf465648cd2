"""Generated data of Flickr8k's proportions. Legend: B images, P places, D width."""

import functools
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from autocaption.data.sources import SPLITS, CaptionedImage
from autocaption.data.tokenizer import SPECIAL

# Number of Flickr8k's 30,000 training captions with 1, 2, ... words, under tokenizer=words.
LENGTHS = (
    *(0, 15, 126, 346, 862, 1958, 2537, 2929, 3318, 3320, 3131, 2777, 2321, 1848, 1329, 976, 662, 513),
    *(365, 204, 136, 110, 74, 52, 33, 20, 11, 7, 9, 4, 3, 1, 2, 0, 0, 1),
)
WORDS = 3486  # words of theirs that occur three times or more
FEATURE_DIM = 1280  # EfficientNet-Lite's


class Generated:
    """A source of images without files, with captions of random words and realistic lengths.

    Args:
        train: number of training images; likewise `val` and `test`.
        captions: number of captions an image.
        seed: seeds the lengths and words.
    """

    def __init__(self, train: int, val: int, test: int, captions: int, seed: int = 0) -> None:
        self._counts = dict(zip(SPLITS, (train, val, test), strict=True))
        self._captions, self._seed = captions, seed

    @functools.cache  # noqa: B019 (a source lives as long as its process)
    def split(self, name: str) -> list[CaptionedImage]:
        """A split's images."""
        random = np.random.default_rng([self._seed, SPLITS.index(name)])
        count = self._counts[name] * self._captions
        lengths = 1 + random.choice(len(LENGTHS), count, p=np.array(LENGTHS) / sum(LENGTHS))
        words = iter(random.integers(WORDS, size=lengths.sum()).tolist())
        texts = (" ".join(f"w{next(words)}" for _ in range(length)) for length in lengths)
        return [
            CaptionedImage(f"{name}-{i}", None, name, tuple(islice(texts, self._captions)))
            for i in range(self._counts[name])
        ]

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """A picture in one colour, which depends on the image."""
        shade = int(str(image.id).partition("-")[2]) % 256
        return Image.new("RGB", (8, 8), (shade, 255 - shade, shade // 2))


def vocabulary() -> list[str]:
    """The special tokens and every word of `Generated`."""
    return [*SPECIAL, *(f"w{i}" for i in range(WORDS))]


class Colours(nn.Module):
    """A frozen encoder that costs nothing: it projects a picture's first pixel.

    Args:
        places: P of its memory.
    """

    image_size, out_dim = 8, FEATURE_DIM
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    fit, crop_share, interpolation = "crop", 1.0, "bicubic"

    def __init__(self, places: int = 1) -> None:
        super().__init__()
        self.mix: Tensor
        mix = torch.randn(3, places * FEATURE_DIM, generator=torch.Generator().manual_seed(0))
        self.register_buffer("mix", mix)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """memory_BPD."""
        return (images_BCHW[:, :, 0, 0].float() / 255 @ self.mix).unflatten(1, (-1, FEATURE_DIM))
