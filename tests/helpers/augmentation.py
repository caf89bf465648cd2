"""The default augmentation, as build.py makes it."""

from torchvision.transforms import v2

from autocaption.data.transforms import Augmented, Square


def crop_and_flip(size, crop_share):
    return Augmented(
        Square(size, crop_share), "crop and flip", (v2.RandomCrop(size), v2.RandomHorizontalFlip())
    )
