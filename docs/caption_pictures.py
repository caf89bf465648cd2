"""Caption pictures from Python: `python docs/caption_pictures.py best.ckpt picture.jpg another.png`

docs/caption_pictures.ipynb does the same step by step.
"""

import sys

from PIL import Image, ImageOps

import autocaption


def main(checkpoint, *pictures):
    """Print captions of each picture; write one picture a word where the decoder attends."""
    model = autocaption.load(checkpoint)
    for picture, captions in zip(pictures, model.caption(pictures, k=3, search="beam"), strict=True):
        print(picture)
        for caption in captions:
            print(f"    {caption.probability:8.2%}  {caption.text}")
    for sample in model.caption(pictures[0], k=3, search="sample", temperature=0.8, seed=1):
        print("    drawn    ", sample.text)
    try:
        found = model.attention(pictures[0])
    except autocaption.UserError as error:
        print(error)
        return
    picture = ImageOps.exif_transpose(Image.open(pictures[0])).convert("RGB")
    for number, (word, weights) in enumerate(zip(found.words, found.maps, strict=True), 1):
        heat = Image.fromarray((255 * weights / weights.max()).astype("uint8"))
        # found.seen is the part of the picture that the model saw, as shares of its sides.
        box = [round(share * side) for share, side in zip(found.seen, picture.size * 2, strict=True)]
        shown = Image.new("L", picture.size)
        shown.paste(heat.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC), box[:2])
        dark = Image.new("RGB", picture.size)
        Image.composite(picture, dark, shown).save(f"word_{number}_{word}.png")
    print(f"{len(found.words)} pictures word_*.png show where it looked")


if __name__ == "__main__":
    main(*sys.argv[1:])
