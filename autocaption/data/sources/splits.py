"""Which split an image is in, where no list of the data set says so."""

from collections.abc import Mapping, Sequence

from autocaption.checks import number, whole
from autocaption.data.sources import ImageId
from autocaption.errors import UserError
from autocaption.randomness import seed_of

# What data sets call their splits; COCO's "restval" is what Karpathy & Fei-Fei left over of its val images.
NAMES = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_named(name: object) -> str | None:
    """The split that a data set calls by this name; None where there is no such name."""
    return NAMES.get(str(name).strip().lower())


def drawn(ids: Sequence[ImageId], sizes: Mapping[str, int], seed: int) -> dict[ImageId, str]:
    """{id: split}, drawn from (seed, id): it depends neither on the order of the ids nor on the machine.

    Args:
        ids: the images.
        sizes: images of each split; those of all splits that remain are in none.
        seed: of the draw.

    Raises:
        UserError: there are fewer images than that.
    """
    whole("data.source.seed", seed, 0)
    if sum(sizes.values()) > len(ids) or min(sizes.values()) < 1:
        wanted = ", ".join(f"{name} {max(size, 0):,}" for name, size in sizes.items())
        raise UserError(
            f"cannot divide {len(ids):,} images into splits of {wanted}; every split needs an image"
        )
    order = sorted(ids, key=lambda id: seed_of("split", seed, id))
    names = [name for name, size in sizes.items() for _ in range(size)]
    return dict(zip(order, names, strict=False))


def held_out_sizes(total: int, held_out: Mapping[str, float]) -> dict[str, int]:
    """Images of each split, where those that are held out of training are a share (below 1) or a number."""
    for name, size in held_out.items():
        number(f"data.source.{name}", size, above=0)
        if size > 1 and size != int(size):
            raise UserError(
                f"data.source.{name}={size}: take a share of all images below 1, or a whole number of images"
            )
    sizes = {name: max(1, round(total * size)) if size < 1 else int(size) for name, size in held_out.items()}
    return {"train": total - sum(sizes.values()), **sizes}


def in_proportion(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """These sizes where there are as many images, and else the same shares of fewer, at least one each."""
    wanted = sum(sizes.values())
    if total >= wanted:
        return dict(sizes)
    val, test = (max(1, total * sizes[name] // wanted) for name in ("val", "test"))
    return {"train": total - val - test, "val": val, "test": test}
