"""Caption pictures with a checkpoint: `python -m autocaption CHECKPOINT IMAGE [IMAGE ...]`."""

import argparse
import sys
from pathlib import Path

from autocaption.errors import UserError
from autocaption.exits import one_line_errors


def main() -> None:
    """Print a line `IMAGE<TAB>caption` for each picture; exit with 1 where one could not be read."""
    parser = argparse.ArgumentParser(prog="python -m autocaption", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a file of a run's checkpoints/")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    arguments = parser.parse_args()
    broken = one_line_errors(lambda: caption(arguments.checkpoint, arguments.images))
    sys.exit(1 if broken else 0)


def caption(checkpoint: Path, images: list[Path]) -> int:
    """Load the model once and caption the pictures one by one.

    Returns:
        how many pictures could not be read; each is named on stderr.
    """
    import torch

    from autocaption import build
    from autocaption.data.pictures import read_image
    from autocaption.runs.checkpoint import load

    captioner, transform, max_pixels = build.for_pictures(load(checkpoint))
    broken = 0
    for image in images:
        try:
            picture = read_image(image, transform.least, max_pixels)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            broken += 1
            continue
        with torch.inference_mode():
            memory_BPD = captioner.encoder(transform(picture, seed=0)[None])
            print(image, captioner.caption(memory_BPD)[0], sep="\t", flush=True)
    return broken


if __name__ == "__main__":
    main()
