import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE, MARGIN, LINE = 224, 12, 16  # pixels


def sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    columns: int = 4,
) -> Image.Image:
    """A grid of pictures at their proportions, each above its caption and two references in grey."""
    text_height = 9 * LINE
    width, height = TILE + MARGIN, TILE + text_height + MARGIN
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=13)
    for i, (picture, caption, texts) in enumerate(zip(pictures, captions, references, strict=True)):
        x, y = MARGIN + i % columns * width, MARGIN + i // columns * height
        tile = ImageOps.contain(picture, (TILE, TILE), Image.Resampling.BICUBIC)
        page.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
        lines = [(line, "black") for line in textwrap.wrap(caption, 32)[:3]]
        for text in texts[:2]:
            lines += [(line, "#888888") for line in textwrap.wrap(text, 32)[:3]]
        for number, (line, colour) in enumerate(lines):
            pen.text((x, y + TILE + 4 + number * LINE), line, fill=colour, font=font)
    return page
