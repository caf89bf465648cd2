"""The feature cache, pictures' files to the finished folder, against the encoder's bare forward pass."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from autocaption.data.pictures import read_image
from autocaption.data.sources import CaptionedImage
from autocaption.data.transforms import CenterCrop
from autocaption.features.cache import FeatureCache
from autocaption.models.encoders.efficientnet import efficientnet

ROUNDS, PICTURES, BATCH, SIZE = 2, 768, 32, (500, 375)  # Flickr's usual size


class Files:
    """A source of picture files."""

    def read(self, image: CaptionedImage) -> Image.Image:
        return read_image(image.path)


def pictures(folder: Path, count: int) -> list[CaptionedImage]:
    """JPEG files of smooth noise, about as hard to decode as photographs."""
    random, images = np.random.default_rng(0), []
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), np.uint8))
        file = folder / f"{i}.jpg"
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(file, quality=90)
        images.append(CaptionedImage(str(i), file, "train", ()))
    return images


@torch.inference_mode()
def bare(encoder: torch.nn.Module, images_BCHW: torch.Tensor, batches: int) -> float:
    """Images a second of the forward pass alone, again and again on the same batch."""
    start = time.perf_counter()
    for _ in range(batches):
        encoder(images_BCHW)
    return batches * len(images_BCHW) / (time.perf_counter() - start)


def measure() -> dict[str, float]:
    encoder = efficientnet("tf_efficientnet_lite2", 224, False, None, "grid", "none").eval()
    transform, batch_BCHW = CenterCrop(224, 1.0), torch.randint(256, (BATCH, 3, 224, 224), dtype=torch.uint8)
    batch_BCHW = batch_BCHW.contiguous(memory_format=torch.channels_last)
    forward, cached = [], []
    with tempfile.TemporaryDirectory() as name:
        images = pictures(Path(name), PICTURES)
        for round in range(ROUNDS):
            cache = FeatureCache(f"{name}/features{round}", encoder, BATCH, num_workers=2, device="cpu")
            bare(encoder, batch_BCHW, 1)
            forward.append(bare(encoder, batch_BCHW, PICTURES // BATCH // 2))
            start = time.perf_counter()
            cache.get(Files(), images, transform, views=1)
            cached.append(PICTURES / (time.perf_counter() - start))
            forward.append(bare(encoder, batch_BCHW, PICTURES // BATCH // 2))
    bare_rate, rate = statistics.median(forward), statistics.median(cached)
    return {
        "images/s": rate,
        "images/s of the bare encoder": bare_rate,
        "of the bare encoder": rate / bare_rate,
    }


if __name__ == "__main__":
    print(measure())
