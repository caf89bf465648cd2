"""Caption pictures with a checkpoint: `python -m autocaption CHECKPOINT IMAGE [IMAGE ...]`."""

import argparse
from pathlib import Path

from autocaption.exits import one_line_errors


def main() -> None:
    """Print a line `IMAGE<TAB>caption` for each picture."""
    parser = argparse.ArgumentParser(prog="python -m autocaption", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a file of a run's checkpoints/")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    arguments = parser.parse_args()
    one_line_errors(lambda: caption(arguments.checkpoint, arguments.images))


def caption(checkpoint: Path, images: list[Path]) -> None:
    """Load the model once and caption the pictures one by one."""
    import torch

    from autocaption import build
    from autocaption.data.pictures import read_image
    from autocaption.runs.checkpoint import load

    captioner, transform = build.for_pictures(load(checkpoint))
    for image in images:
        picture_CHW = transform(read_image(image), seed=0)
        with torch.inference_mode():
            print(image, captioner.caption(captioner.encoder(picture_CHW[None]))[0], sep="\t")


if __name__ == "__main__":
    main()
