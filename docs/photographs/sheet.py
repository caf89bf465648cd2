"""Caption the photographs of this folder: `python docs/photographs/sheet.py best.ckpt sheet.jpg`

All of them, each with the model's best caption by the search that it was trained with.
"""

import sys
from pathlib import Path

from PIL import Image

import autocaption
from autocaption.report.sheet import LINE, MARGIN, TILE, sheet

NAMES = "dog.jpg", "camera.jpg", "soccer.jpg", "car.jpg"


def main(checkpoint, file):
    """Write the sheet, and print what stands on it."""
    pictures = [Image.open(Path(__file__).parent / name) for name in NAMES]
    captions = [found[0].text for found in autocaption.load(checkpoint).caption(pictures)]
    for name, caption in zip(NAMES, captions, strict=True):
        print(f"{name}\t{caption}")
    page = sheet(pictures, captions, [()] * len(pictures))
    page.crop((0, 0, page.width, 2 * MARGIN + TILE + 3 * LINE)).save(file, quality=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
