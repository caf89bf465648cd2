"""The feature cache, from image files to the finished folder, against the encoder's bare forward pass."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from autocaption.data.manifest import Manifest
from autocaption.data.pictures import read_image
from autocaption.data.sources import CaptionedImage
from autocaption.data.transforms import Square
from autocaption.features.cache import FeatureCache
from autocaption.models.encoders.timm_models import timm_encoder


class Files:
    """A source of image files."""

    def __init__(self, images: Sequence[CaptionedImage]) -> None:
        self.images = images

    def split(self, name: str) -> Sequence[CaptionedImage]:
        return self.images

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        assert image.path is not None
        return read_image(image.path, least)


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[CaptionedImage]:
    """Write JPEG files of smooth noise, about as hard to decode as photographs."""
    random, images = np.random.default_rng(0), []
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), np.uint8))
        file = folder / f"{i}.jpg"
        coarse.resize(size, Image.Resampling.BICUBIC).save(file, quality=90)
        images.append(CaptionedImage(str(i), file, "train", ()))
    return images


@torch.inference_mode()
def bare(encoder: torch.nn.Module, images_BCHW: torch.Tensor, batches: int) -> float:
    """Images a second of the forward pass alone, on the same batch again and again."""
    start = time.perf_counter()
    for _ in range(batches):
        encoder(images_BCHW)
    return batches * len(images_BCHW) / (time.perf_counter() - start)


def measure(
    *,
    pictures: int = 768,
    picture_size: tuple[int, int] = (500, 375),  # Flickr's usual size
    image_size: int = 224,
    batch: int = 32,
    rounds: int = 2,
) -> dict[str, float]:
    transform = Square(image_size)
    encoder = timm_encoder("tf_efficientnet_lite2", image_size, False, None, "grid", "none").eval()
    batch_BCHW = torch.randint(256, (batch, 3, image_size, image_size), dtype=torch.uint8)
    batch_BCHW = batch_BCHW.contiguous(memory_format=torch.channels_last)
    forward, cached = [], []
    with tempfile.TemporaryDirectory() as name:
        images = write_pictures(Path(name), pictures, picture_size)
        for round in range(rounds):
            cache = FeatureCache(
                f"{name}/features{round}", encoder, batch, [torch.device("cpu")], Manifest(None)
            )
            bare(encoder, batch_BCHW, 1)
            forward.append(bare(encoder, batch_BCHW, pictures // batch // 2))
            start = time.perf_counter()
            cache.get(Files(images), images, transform, views=1)
            cached.append(pictures / (time.perf_counter() - start))
            forward.append(bare(encoder, batch_BCHW, pictures // batch // 2))
    bare_rate, rate = statistics.median(forward), statistics.median(cached)
    return {
        "images/s": rate,
        "images/s of the bare encoder": bare_rate,
        "of the bare encoder": rate / bare_rate,
    }


if __name__ == "__main__":
    print(measure())
