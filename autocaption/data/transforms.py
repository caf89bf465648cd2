from torchvision.transforms import v2


def evaluation(size: int, crop: float) -> v2.Transform:
    """PIL picture to uint8 (3, size, size): the centre, `crop` of the shorter side wide."""
    return v2.Compose([v2.PILToTensor(), v2.Resize(round(size / crop), antialias=True), v2.CenterCrop(size)])


def training(size: int, crop: float) -> v2.Transform:
    """Like `evaluation`, with the crop's place and a left-right flip drawn from torch's generator."""
    return v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(round(size / crop), antialias=True),
            v2.RandomCrop(size),
            v2.RandomHorizontalFlip(),
        ]
    )
