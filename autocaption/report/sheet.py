"""A grid of pictures with their captions, as one picture."""

import logging
import textwrap
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE, MARGIN, LINE = 224, 12, 16  # pixels
SIZE, LETTERS, LINES = 13, 32, 3  # of a text: pixels, the most letters a line, and the most lines
CUT = " ..."  # ends a longer one
# Of the system, in the order to try: Pillow brings a font of ASCII alone.
FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
)
NO_CHARACTER = "\uffff"  # drawn as what a font lacks

log = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    columns: int = 4,
) -> Image.Image:
    """A grid of pictures at their proportions, each above its caption and two references in grey.

    Characters that no font at hand has are named in a warning.
    """
    text_height = 9 * LINE
    width, height = TILE + MARGIN, TILE + text_height + MARGIN
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    pen = ImageDraw.Draw(page)
    font = _font("".join([*captions, *(text for texts in references for text in texts[:2])]))
    for i, (picture, caption, texts) in enumerate(zip(pictures, captions, references, strict=True)):
        x, y = MARGIN + i % columns * width, MARGIN + i // columns * height
        tile = ImageOps.contain(picture, (TILE, TILE), Image.Resampling.BICUBIC)
        page.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
        lines = [(line, "black") for line in _wrapped(caption, font)]
        for text in texts[:2]:
            lines += [(line, "#888888") for line in _wrapped(text, font)]
        for number, (line, colour) in enumerate(lines):
            pen.text((x, y + TILE + 4 + number * LINE), line, fill=colour, font=font)
    return page


def _font(text: str) -> Font:
    """The font that has most of the characters of a text: Pillow's own, else one of the system's."""
    characters = sorted(character for character in set(text) if character.isprintable())
    best: Font = ImageFont.load_default(size=SIZE)
    lacking = _lacking(best, characters)
    for name in FONTS if lacking else ():
        try:
            font = ImageFont.truetype(name, SIZE)
        except OSError:  # it isn't here
            continue
        if len(lacks := _lacking(font, characters)) < len(lacking):
            best, lacking = font, lacks
    if lacking:
        boxes = "".join(lacking)
        log.warning("samples.png has boxes for %s, which no font here has; the report shows them", boxes)
    return best


def _lacking(font: Font, characters: Iterable[str]) -> list[str]:
    """Those of the characters that a font draws as the box that stands for none."""
    box = bytes(font.getmask(NO_CHARACTER))
    return [character for character in characters if bytes(font.getmask(character)) == box]


def _wrapped(text: str, font: Font) -> list[str]:
    """The first lines of a text, none of them wider than a picture."""
    for letters in range(LETTERS, len(CUT), -1):
        lines = textwrap.wrap(text, letters, max_lines=LINES, placeholder=CUT)
        if all(font.getlength(line) <= TILE for line in lines):
            break
    return lines
